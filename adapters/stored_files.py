"""The files of a registry's versions in an object store that several processes reach, with copies in a folder here.

A version is registered when its objects are stored; a copy is checked against the hashes that the registry names before
it is used, and made anew where it is not as it should be. Knows keys of objects, files and hashes; whose they are is a
word in front of the keys.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from adapters.adapter_cache import AdapterCache
from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.engine import AdapterRef
from adapters.errors import AdapterFilesDamaged, AdapterFilesUnavailable, AdapterStoreUnavailable
from adapters.object_store import ObjectStore
from adapters.version_files import AddedFiles, Check, FolderFiles, KeptFiles

_log = logging.getLogger(__name__)
VERSION_FILES = (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
_TRIES = 3  # a copy may be deleted for want of room before it is used


class StoredFiles:
    """The versions of one registry; see `adapters.version_files.VersionFiles`.

    Args:
        folder: where the copies lie.
        prefix: what the keys of the objects begin with.
    """

    def __init__(self, folder: Path, prefix: str, store: ObjectStore, cache: AdapterCache) -> None:
        self._folder, self._prefix, self._store, self._cache = folder, prefix, store, cache
        self._copies = FolderFiles(folder)
        self._fetching = threading.Lock()
        self._checked: dict[str, tuple[int, ...]] = {}  # how the files of a copy stood when their hashes were right

    @contextmanager
    def adding(self, name: str, config: bytes, weights: bytes, check: Check) -> Iterator[AddedFiles]:
        """See `VersionFiles`."""
        keys = self._keys(name)
        with self._copies.adding(name, config, weights, check) as added, self._cache.using(self._folder / name):
            try:
                for file in VERSION_FILES:
                    self._store.put(keys[file], self._folder / name / file)
                yield added
            except BaseException:
                self._delete(name)
                raise
        self._cache.grew(len(config) + len(weights), self._folder / name)

    def ref(self, kept: KeptFiles, known_as: str) -> AdapterRef:
        """See `VersionFiles`."""
        return AdapterRef(kept.sha256, self._folder / kept.name, known_as, partial(self._bring, kept))

    def remove(self, name: str) -> None:
        """See `VersionFiles`."""
        self.forget(name)
        self._delete(name)

    def forget(self, name: str) -> None:
        """See `VersionFiles`."""
        self._checked.pop(name, None)
        self._cache.discard(self._folder / name)

    def set_aside(self) -> None:
        """See `VersionFiles`: what lies here are copies."""

    def sweep(self, named: Collection[str], seconds: float) -> None:
        """See `VersionFiles`."""
        self._copies.sweep(named, seconds)

    @contextmanager
    def _bring(self, kept: KeptFiles) -> Iterator[None]:
        """Have a version's files in its folder within the block."""
        folder = self._folder / kept.name
        for _ in range(_TRIES):
            with self._cache.using(folder) as is_there:
                if is_there and self._is_right(kept, folder):
                    yield
                    return
            self._fetch(kept, folder)
        raise AdapterStoreUnavailable(
            "The copies of this adapter's files were deleted before they were used, for want of room: raise "
            "LOREBASE_ADAPTER_CACHE_MB, or ask again."
        )

    def _is_right(self, kept: KeptFiles, folder: Path) -> bool:
        try:
            stands = tuple(
                number
                for found in ((folder / name).stat() for name in VERSION_FILES)
                for number in (found.st_ino, found.st_size, found.st_mtime_ns)
            )
        except FileNotFoundError:
            return False
        if self._checked.get(kept.name) != stands:
            if not kept.are_in(folder):
                _log.warning("the copy in %s is not what was registered; it is fetched again", folder)
                return False
            self._checked[kept.name] = stands
        return True

    def _fetch(self, kept: KeptFiles, folder: Path) -> None:
        """Make a copy, in place of one that is not right. Raises AdapterFilesUnavailable."""
        with self._fetching:
            with self._cache.using(folder) as is_there:
                if is_there and self._is_right(kept, folder):  # another thread has made it
                    return
            try:
                with self._cache.filling(folder) as part:
                    fetch_files(self._store, self._prefix, kept, part)
                    self._cache.discard(folder)
            except OSError as error:
                raise AdapterStoreUnavailable(
                    f"The server's disk takes no copy of this adapter's files ({error.strerror}); try again later."
                ) from error

    def _keys(self, name: str) -> dict[str, str]:
        return {file: key_of(self._prefix, name, file) for file in VERSION_FILES}

    def _delete(self, name: str) -> None:
        try:
            self._store.delete(self._keys(name).values())
        except AdapterFilesUnavailable as error:
            _log.warning("the files of an adapter version stay in their store until a later start: %s", error)


def key_of(prefix: str, name: str, file: str) -> str:
    """The key of one file of a version."""
    return f"{prefix}/{name}/{file}"


def fetch_files(store: ObjectStore, prefix: str, kept: KeptFiles, folder: Path) -> None:
    """Write a version's files from the store into a folder, checking them. Raises AdapterFilesUnavailable."""
    for file, sha256 in kept.hashes.items():
        key = key_of(prefix, kept.name, file)
        found = store.fetch(key, folder / file)
        if sha256 is not None and found != sha256:
            with suppress(FileNotFoundError):
                os.unlink(folder / file)
            raise AdapterFilesDamaged(
                f"The object {key} in {store.place} is not what was registered. Restore it, or delete the version and "
                "register it again."
            )
