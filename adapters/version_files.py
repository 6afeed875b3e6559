"""Where the files of adapter versions lie: the seam between a registry and what keeps them. Here: a folder for each
version, in one folder.

Each version's files have a name that is made here; they are complete before a registry names them and never change.
Knows names and hashes; knows nothing of versions' numbers, of owners and of models.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, damage, sha256_of
from adapters.engine import AdapterFacts, AdapterRef
from adapters.errors import AdapterFilesDamaged
from adapters.registry_state import sync_folder, write_durably

UNLISTED = ".unlisted"
"""Ends the names of folders whose versions no list names."""
Check = Callable[[Path], AdapterFacts]
"""Looks at an adapter's folder; raises InvalidAdapter."""


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The files of a version: their name, and the sha256 of the weights and of the config, where that was noted."""

    name: str
    sha256: str
    config_sha256: str | None

    @property
    def hashes(self) -> dict[str, str | None]:
        """The sha256 of each, by its name in the version's folder."""
        return {ADAPTER_CONFIG: self.config_sha256, ADAPTER_WEIGHTS: self.sha256}

    def are_in(self, folder: Path) -> bool:
        """Whether a folder has them, as they were registered."""
        for name, sha256 in self.hashes.items():
            path = folder / name
            if not path.is_file() or (sha256 is not None and sha256_of(path) != sha256):
                return False
        return True


@dataclass(frozen=True, slots=True)
class AddedFiles:
    """A version's files as they are kept: what the check found, and the sha256 of the config."""

    facts: AdapterFacts
    config_sha256: str


class VersionFiles(Protocol):
    """Keeps the files of versions, by names."""

    def adding(self, name: str, config: bytes, weights: bytes, check: Check) -> AbstractContextManager[AddedFiles]:
        """Keep a version's files; they are durable and complete when the block begins, and gone when it raises.

        Raises:
            InvalidAdapter: from ``check``.
            AdapterFilesUnavailable: they cannot be kept now.
        """

    def ref(self, kept: KeptFiles, known_as: str) -> AdapterRef:
        """What engines know a version by; ``known_as``: its name for people."""

    def remove(self, name: str) -> None:
        """Delete a version's files, which no registry names any more; what stays is swept later."""

    def forget(self, name: str) -> None:
        """Delete what this process has of a version that another one has removed."""

    def set_aside(self) -> None:
        """Keep what lies here alone from being swept: the list that would name it may be lost."""

    def sweep(self, named: Collection[str], seconds: float) -> None:
        """Delete what this process has of other versions than those ``named``, unless it is younger than that: it may
        be another process's that adds it just now."""


def damage_of(ref: AdapterRef, *, weights: bool = True) -> str | None:
    """What is wrong with a version's files, which lie in its folder; without ``weights``, with its config; None when
    nothing is."""
    what = damage(ref.folder / ADAPTER_CONFIG, ref.config_sha256)
    return damage(ref.folder / ADAPTER_WEIGHTS, ref.sha256) if what is None and weights else what


def refuse_damaged(ref: AdapterRef, *, weights: bool = True) -> None:
    """Raise AdapterFilesDamaged where something is wrong with a version's files: see `damage_of`. What is brought from
    elsewhere is looked at by what brings it, and what is no version of a registry was never known to be whole."""
    name, at, _ = (known_as := ref.name.rpartition("/")[2]).partition("@")
    if not at or ref.bring is not None or (what := damage_of(ref, weights=weights)) is None:
        return
    raise AdapterFilesDamaged(
        f"The files of {known_as} are damaged: {what}. The base and other versions answer on. Roll back (POST "
        f"/adapters/{name}/rollback), or import it again (POST /adapters/{name}/versions) and promote that; the "
        "operator can restore a backup."
    )


class FolderFiles:
    """A folder for each version, in one folder that all have who serve it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def adding(self, name: str, config: bytes, weights: bytes, check: Check) -> Iterator[AddedFiles]:
        """See `VersionFiles`."""
        folder = self._folder / name
        folder.mkdir()
        try:
            write_durably(folder / ADAPTER_CONFIG, config)
            write_durably(folder / ADAPTER_WEIGHTS, weights)
            facts = check(folder)
            sync_folder(folder)
            sync_folder(self._folder)
            yield AddedFiles(facts, hashlib.sha256(config).hexdigest())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def ref(self, kept: KeptFiles, known_as: str) -> AdapterRef:
        """See `VersionFiles`."""
        return AdapterRef(kept.sha256, self._folder / kept.name, known_as, config_sha256=kept.config_sha256)

    def remove(self, name: str) -> None:
        """See `VersionFiles`."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def forget(self, name: str) -> None:
        """See `VersionFiles`: the folder is the other one's too, and so is what it deleted there."""

    def set_aside(self) -> None:
        """See `VersionFiles`: under other names."""
        for folder in self._folder.iterdir():
            if folder.suffix != UNLISTED and (folder / ADAPTER_WEIGHTS).is_file():
                folder.rename(folder.with_name(folder.name + UNLISTED))

    def sweep(self, named: Collection[str], seconds: float) -> None:
        """See `VersionFiles`; what was set aside stays."""
        latest = time.time() - seconds
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process has swept it
                if folder.suffix == UNLISTED:
                    continue
                if folder.is_dir() and folder.name not in named and (not seconds or folder.stat().st_mtime < latest):
                    shutil.rmtree(folder, ignore_errors=True)
