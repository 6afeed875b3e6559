"""A store of objects that several hosts reach: the seam, and one in a folder of a file system that they share.

An object is bytes under a key: words with `/` between them, all made by the service. It appears whole or not at all.
Knows bytes and keys; knows nothing of adapters. `adapters.s3_objects` is the other implementation, and both pass
`tests/adapters/object_store_contract.py`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from adapters.errors import (
    AdapterFilesDamaged,
    AdapterStoreFull,
    AdapterStoreUnavailable,
    UnsuitableAdapterStore,
)

BLOCK_BYTES = 8 * 1024**2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there; ``changed_at``: when it was put, seconds since 1970 by the store's clock."""

    key: str
    changed_at: float


class ObjectStore(Protocol):
    """Keeps objects. Safe for many threads and processes.

    All raise AdapterStoreUnavailable where the store cannot be reached or refuses.
    """

    place: str
    """Where it is, for people, and the same for all who reach the same one."""

    def put(self, key: str, content: bytes | Path) -> None:
        """Store bytes, or a file's, in place of what was there; durable on return. Raises AdapterStoreFull."""

    def read(self, key: str) -> bytes | None:
        """A small object; None where it is not there."""

    def fetch(self, key: str, target: Path) -> str:
        """Write an object into a file; the sha256 of its bytes, hexadecimal. Raises AdapterFilesDamaged where it is not
        there."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with the words of ``prefix``, in any order."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are none the less gone."""


def open_object_store(url: str) -> ObjectStore:
    """The store at ``file:///folder`` or ``s3://bucket/prefix``. It is not asked yet.

    Raises:
        UnsuitableAdapterStore: there is no such kind, or its library is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return FolderObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from adapters.s3_objects import S3Objects

        return S3Objects(parts.netloc, parts.path.strip("/"))
    raise UnsuitableAdapterStore(f"{url!r} is no store: write file:///folder or s3://bucket/prefix.")


class FolderObjects:
    """Objects as files of a folder, which must be there: a file system that is not mounted is no empty store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = root.as_uri()

    def put(self, key: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        with self._reaching():
            target = self._root / key
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
            try:
                with part.open("wb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, file, BLOCK_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            for folder in (target.parent, *target.parent.parents):
                _sync(folder)
                if folder == self._root:
                    break

    def read(self, key: str) -> bytes | None:
        """See `ObjectStore`."""
        with self._reaching():
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                return None

    def fetch(self, key: str, target: Path) -> str:
        """See `ObjectStore`."""
        with self._reaching():
            try:
                source = (self._root / key).open("rb")
            except FileNotFoundError:
                raise missing(self.place, key) from None
            digest = hashlib.sha256()
            with source, target.open("wb") as file:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
        return digest.hexdigest()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore`."""
        with self._reaching():
            for path in (self._root / prefix).rglob("*"):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    if path.is_file():
                        yield StoredObject(path.relative_to(self._root).as_posix(), path.stat().st_mtime)

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore`."""
        with self._reaching():
            for key in keys:
                path = self._root / key
                path.unlink(missing_ok=True)
                for folder in path.parents:
                    if folder == self._root:
                        break
                    try:
                        folder.rmdir()
                    except OSError:  # not empty, or gone
                        break

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        if not self._root.is_dir():
            raise AdapterStoreUnavailable(
                f"The store of adapter files cannot be reached: there is no folder {self._root}. Mount it, or make it."
            )
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise full(self.place) from error
            raise AdapterStoreUnavailable(
                f"The store of adapter files at {self.place} refuses: {error.strerror}. Mend it, and try again."
            ) from error


def missing(place: str, key: str) -> AdapterFilesDamaged:
    """An object is not there that a registry says is."""
    return AdapterFilesDamaged(
        f"The files of this adapter version are missing from their store. Restore the object {key} in {place}, or "
        "delete the version and register it again."
    )


def full(place: str) -> AdapterStoreFull:
    """The store has no room."""
    return AdapterStoreFull(
        f"The store of adapter files at {place} is full. Nothing was stored; make room there, and try again."
    )


def _sync(folder: Path) -> None:
    with suppress(FileNotFoundError):  # emptied and deleted meanwhile, by whoever deletes
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
