"""Copies of adapters' files that lie elsewhere: one folder for each version, bounded by bytes.

A copy that is used is locked, by this process or by another one that has the same folder, and stays until it is let go;
of the others the least recently used are deleted when there are too many. Knows folders; knows nothing of where the
files come from.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_log = logging.getLogger(__name__)
UNFINISHED = "."
"""Begins the name of a folder that is being filled, or emptied."""
_LEFT_SHARE = 0.9  # of the budget, after copies were deleted


class AdapterCache:
    """The copies under ``root``, whose folders of folders match ``pattern``.

    Args:
        budget_bytes: what they may take together; those in use and the newest count, and stay.
    """

    def __init__(self, root: Path, pattern: str, budget_bytes: int) -> None:
        self._root, self._pattern, self._budget = root, pattern, budget_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None  # None: not deleted from yet, as there may be files that lie nowhere else

    def begin(self) -> None:
        """Everything here lies elsewhere too: from now on copies are deleted when there are too many."""
        with self._lock:
            self._bytes = 0
        self.grew(sum(size for _, _, size in self._copies()), None)

    @contextmanager
    def using(self, folder: Path) -> Iterator[bool]:
        """Whether a copy is there; it is not deleted within the block."""
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            is_there = _is(handle, folder)
            if is_there:
                with suppress(FileNotFoundError):
                    os.utime(folder)
            yield is_there
        finally:
            os.close(handle)

    @contextmanager
    def filling(self, folder: Path) -> Iterator[Path]:
        """A folder to write a copy into, which is in its place when the block ends in order."""
        part = folder.with_name(f"{UNFINISHED}{folder.name}.{uuid.uuid4().hex}")
        part.mkdir(parents=True)
        try:
            yield part
            size = _size(part)
            with suppress(OSError):  # another process was first
                part.rename(folder)
                self.grew(size, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def discard(self, folder: Path) -> None:
        """Delete a copy, also one in use: what is open stays open."""
        part = folder.with_name(f"{UNFINISHED}{folder.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            folder.rename(part)
        shutil.rmtree(part, ignore_errors=True)

    def grew(self, size: int, newest: Path | None) -> None:
        """There are so many bytes more; delete what is too much of the others."""
        with self._lock:
            if self._bytes is None:
                return
            self._bytes += size
            if self._bytes > self._budget:
                self._bytes = self._delete_oldest(newest)

    def _delete_oldest(self, newest: Path | None) -> int:
        """Delete copies that nobody uses until there is room again; how many bytes are left."""
        copies = sorted(self._copies())
        left = sum(size for _, _, size in copies)
        for _, folder, size in copies:
            if left <= _LEFT_SHARE * self._budget:
                break
            if folder != newest and self._delete_unused(folder):
                left -= size
        if left > self._budget:
            _log.warning("copies of adapters in use take %s bytes: more than LOREBASE_ADAPTER_CACHE_MB", left)
        return left

    def _delete_unused(self, folder: Path) -> bool:
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.discard(folder)
        except OSError:  # in use, or the file system knows no locks
            return False
        finally:
            os.close(handle)
        return True

    def _copies(self) -> Iterator[tuple[float, Path, int]]:
        """When each was last used, where it is, and its bytes."""
        for folder in self._root.glob(self._pattern):
            with suppress(FileNotFoundError, NotADirectoryError):
                if folder.is_dir() and not folder.name.startswith(UNFINISHED):
                    yield folder.stat().st_mtime, folder, _size(folder)


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def _is(handle: int, folder: Path) -> bool:
    """Whether an open folder still lies where it was found."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
