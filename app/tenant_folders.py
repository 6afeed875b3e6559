"""The folders of tenants, and how one of them goes for good, whatever interrupts it.

A folder is renamed before its tenant is forgotten, and its name goes last, when nothing of the tenant is left anywhere
else. So a start finishes a removal that was interrupted, takes one back that never happened, and leaves a folder alone
that nobody marked: a central database of an earlier day, put back, knows fewer tenants than there are.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

REMOVED = ".removed"
"""Ends the name of a folder whose tenant is, or is about to be, no more."""
_ERASE_SECONDS = 10.0  # for those who are still writing to see that it is gone

_log = logging.getLogger("lorebase.workspace")


class TenantFolders:
    """One folder for each tenant.

    Args:
        forget: leaves no byte of a removed tenant outside of its folder; false when it has to be tried again.
    """

    def __init__(self, root: Path, forget: Callable[[str], bool] = lambda _: True) -> None:
        self._root = root
        self._forget = forget

    def of(self, tenant_id: str) -> Path:
        """The folder of a tenant, which need not be there yet."""
        return self._root / tenant_id

    def mark(self, tenant_id: str) -> None:
        """Note that a tenant is about to be forgotten; what was opened in its folder goes on. Raises OSError."""
        self.of(tenant_id).mkdir(parents=True, exist_ok=True)
        self._rename(self.of(tenant_id), self._marked(tenant_id))

    def unmark(self, tenant_id: str) -> None:
        """Take it back: the tenant stays. Raises OSError."""
        self._rename(self._marked(tenant_id), self.of(tenant_id))

    def erase(self, tenant_id: str) -> None:
        """Delete what a marked tenant owned, also while something is written to it yet; what stays is erased at the
        next start."""
        _delete(self.of(tenant_id))  # somebody who was at work may have made it anew
        marked = self._marked(tenant_id)
        for inside in list(marked.iterdir()) if marked.is_dir() else ():
            _delete(inside)
        if not self.of(tenant_id).exists() and self._forget(tenant_id):
            _delete(marked)

    def delete(self, tenant_id: str) -> None:
        """Delete the folder of a tenant that another process has removed, and forgets."""
        _delete(self.of(tenant_id))

    def sweep(self, known: Collection[str]) -> None:
        """Finish removals that were interrupted, of tenants that are not ``known``, and take the others back."""
        for folder in sorted(self._root.iterdir()) if self._root.is_dir() else ():
            tenant_id = folder.name.removesuffix(REMOVED)
            if folder.name == tenant_id and tenant_id not in known:
                if not self._marked(tenant_id).exists():
                    _log.warning("a folder of no tenant that the central database knows: %s", folder)
            elif folder.name != tenant_id and tenant_id not in known:
                self.erase(tenant_id)
            elif folder.name != tenant_id:
                self.unmark(tenant_id)

    def _marked(self, tenant_id: str) -> Path:
        return self._root / f"{tenant_id}{REMOVED}"

    def _rename(self, folder: Path, name: Path) -> None:
        folder.rename(name)
        handle = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _delete(path: Path) -> None:
    deadline = time.monotonic() + _ERASE_SECONDS
    while path.exists():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.exists():
            if time.monotonic() > deadline:
                _log.error("it cannot be erased: %s", path)
                return
            time.sleep(0.1)
