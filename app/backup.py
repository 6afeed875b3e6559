"""A data folder as one tar archive, taken while the service works, and a data folder made from one.

Databases are copied as SQLite copies them, one committed state each; an adapter version's files are immutable and
linked aside before they are read. The manifest is the archive's last file: without it an archive is incomplete. Left
out are the keys' file, which must not lie in backups, and what is derived: vector indexes. Knows folders and
databases; no HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import IO, Any

from adapters.errors import AdapterFilesDamaged
from ingest import DatabaseClosed, SqliteDatabase

DATABASE = "lorebase.db"
TENANTS = "tenants"
ADAPTERS = "adapters"
"""Of a tenant's folder."""
MANIFEST = "manifest.json"
STAGING_PREFIX = "backup-"
_FORMAT = 1
_BLOCK = 1024**2
_LEFT_OUT = frozenset({"index", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"})
_MEMBER = re.compile(rf"{re.escape(DATABASE)}|{TENANTS}/[0-9a-f]{{32}}(/[\w-][\w.-]*)+")
_ATTEMPTS = 20

OpenTenant = Callable[[str], AbstractContextManager[SqliteDatabase | None]]
"""A tenant's database by id, open within the block; None for one that was never used, or is gone."""
CompleteAdapters = Callable[[str, Path], None]
"""Given a tenant's id and a folder with the list of its adapter versions: puts those there that are missing."""
Report = Callable[[int, int], None]
"""Told tenants done and tenants in all."""


class InvalidBackup(Exception):
    """An archive that is incomplete, damaged, or no backup; or a folder that cannot take one."""


def backup(
    data: Path,
    central: SqliteDatabase,
    open_tenant: OpenTenant,
    report: Report = lambda *_: None,
    only: str | None = None,
    complete: CompleteAdapters | None = None,
) -> Iterator[bytes]:
    """The archive of a data folder, piece by piece; of one tenant alone when ``only`` says which.

    A tenant's database and adapters are of one moment or the next; tenants follow each other, and the central database
    comes last, so that a tenant made in between is in the archive too, and one erased in between is not restored.

    Args:
        complete: brings the adapters' files that do not lie in the folder.

    Raises:
        OSError, sqlite3.Error: something cannot be read, or there is no room for the copy of the largest database.
        AdapterFilesUnavailable: from ``complete``.
    """
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=data) as folder:
        staging = Path(folder)
        files: dict[str, dict[str, Any]] = {}
        done: list[str] = []
        while True:
            central.snapshot(staging / DATABASE)
            _forget_adapter_store(staging / DATABASE)
            if only is not None:
                _keep_only(staging / DATABASE, only)
            ids = _tenant_ids(staging / DATABASE)
            if not (missing := [tenant_id for tenant_id in ids if tenant_id not in done]):
                break
            for tenant_id in missing:
                report(len(done), len(ids))
                _stage_tenant(data / TENANTS / tenant_id, tenant_id, open_tenant, staging / tenant_id, complete)
                yield from _members(staging / tenant_id, f"{TENANTS}/{tenant_id}", files)
                shutil.rmtree(staging / tenant_id)
                done.append(tenant_id)
        yield from _member(staging / DATABASE, DATABASE, files)
        kept = {name: entry for name, entry in files.items() if name == DATABASE or name.split("/")[1] in ids}
        (staging / MANIFEST).write_text(json.dumps({"format": _FORMAT, "created_at": time.time(), "files": kept}))
        yield from _member(staging / MANIFEST, MANIFEST, {})
        report(len(ids), len(ids))
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def restore(archive: IO[bytes], data: Path, report: Report = lambda *_: None) -> int:
    """Make the data folder ``data`` from an archive; how many tenants it holds.

    Everything is checked against the manifest first; the folder appears complete or not at all.

    Args:
        report: told bytes read and bytes in all.

    Raises:
        InvalidBackup: the archive is incomplete, damaged or no backup, or ``data`` is there already and not empty.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise InvalidBackup(f"{data} is not empty; restore into a new folder: set LOREBASE_DATA to one.")
    data.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{data.name}-restoring-", dir=data.parent) as folder:
        staging = Path(folder) / "data"
        staging.mkdir(mode=0o700)
        found, manifest = _unpack(archive, staging, report)
        _check(found, manifest, staging)
        ids = _tenant_ids(staging / DATABASE)
        _open_all_after_restart(staging / DATABASE)
        _sync_tree(staging)
        os.replace(staging, data)
    return len(ids)


def sweep_staging(data: Path) -> None:
    """Delete what a backup that was interrupted left in a data folder."""
    for folder in data.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def is_complete(archive: Path) -> bool:
    """Whether an archive ends with its manifest; nothing else of it is checked."""
    try:
        with tarfile.open(archive) as tar:
            return tar.getnames()[-1:] == [MANIFEST]
    except (tarfile.TarError, OSError):
        return False


def _stage_tenant(
    folder: Path, tenant_id: str, open_tenant: OpenTenant, staging: Path, complete: CompleteAdapters | None
) -> None:
    staging.mkdir()
    try:
        with open_tenant(tenant_id) as database:
            if database is not None:
                database.snapshot(staging / DATABASE)
    except DatabaseClosed:  # erased while it was copied: the central database will not name it
        (staging / DATABASE).unlink(missing_ok=True)
        return
    for attempt in range(_ATTEMPTS):  # a version may be deleted between the names and the links
        try:
            _link_tree(folder, staging)
            if complete is not None and (staging / ADAPTERS).is_dir():
                complete(tenant_id, staging / ADAPTERS)
        except (FileNotFoundError, AdapterFilesDamaged) as error:
            if attempt == _ATTEMPTS - 1 and isinstance(error, AdapterFilesDamaged):
                raise
            for entry in staging.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
        else:
            return
    raise OSError(f"The files of tenant {tenant_id} kept changing while they were copied; try again.")


def _link_tree(source: Path, target: Path) -> None:
    """Link files into ``target``; those that are replaced rather than changed stay what they were."""
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir(), key=lambda e: e.is_dir()):  # files that name folders come first
        if entry.name in _LEFT_OUT or entry.suffix == ".tmp" or entry.name.startswith("."):
            continue
        if entry.is_dir():
            (target / entry.name).mkdir(exist_ok=True)
            _link_tree(entry, target / entry.name)
        else:
            os.link(entry, target / entry.name)


def _members(folder: Path, prefix: str, files: dict[str, dict[str, Any]]) -> Iterator[bytes]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield from _member(path, f"{prefix}/{path.relative_to(folder).as_posix()}", files)


def _member(path: Path, name: str, files: dict[str, dict[str, Any]]) -> Iterator[bytes]:
    """One file of the archive; its size and hash are noted in ``files``."""
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = path.stat().st_size, 0o600, int(path.stat().st_mtime)
    yield header.tobuf(tarfile.PAX_FORMAT)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            yield block
    yield b"\0" * (-header.size % tarfile.BLOCKSIZE)
    files[name] = {"bytes": header.size, "sha256": digest.hexdigest()}


def _tenant_ids(central: Path) -> list[str]:
    with closing(sqlite3.connect(central)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM tenants ORDER BY created_at, id")]


def _keep_only(central: Path, tenant_id: str) -> None:
    """Leave one tenant in a copy of the central database, and its keys; not those that the environment gives."""
    with closing(sqlite3.connect(central, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM keys WHERE tenant_id IS NOT ? OR from_environment", (tenant_id,))
        connection.execute("DELETE FROM tenants WHERE id <> ?", (tenant_id,))
        connection.execute("VACUUM")  # what was deleted would still lie in the file


def _forget_adapter_store(central: Path) -> None:
    """An archive holds its adapters' files; a store belongs to the service that it was made from."""
    with closing(sqlite3.connect(central, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("DELETE FROM adapter_store")


def _open_all_after_restart(central: Path) -> None:
    """Note that any tenant may have unfinished jobs: the central database was copied after theirs."""
    with closing(sqlite3.connect(central)) as connection, connection:
        connection.execute("INSERT OR IGNORE INTO unfinished SELECT id FROM tenants")


def _unpack(archive: IO[bytes], staging: Path, report: Report) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Write the archive's files under ``staging``; what they are, and the manifest."""
    archive.seek(0, os.SEEK_END)
    size = archive.tell()
    archive.seek(0)
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar:
                report(archive.tell(), size)
                file = tar.extractfile(member) if member.isfile() else None
                if file is None or (member.name != MANIFEST and not _MEMBER.fullmatch(member.name)):
                    raise InvalidBackup(f"This is no backup of a data folder: it holds {member.name[:100]!r}.")
                if member.name == MANIFEST:
                    manifest = json.load(file)
                else:
                    found[member.name] = _write(file, staging / member.name)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise InvalidBackup(f"The archive cannot be read: {error}") from error
    return found, manifest


def _write(source: IO[bytes], target: Path) -> dict[str, Any]:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            digest.update(block)
            size += len(block)
            file.write(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _check(found: dict[str, dict[str, Any]], manifest: dict[str, Any], staging: Path) -> None:
    """Hold what was unpacked against the manifest, and delete what it does not name."""
    if manifest.get("format") != _FORMAT:
        problem = "was made by a newer version of this software" if manifest else "is incomplete: it has no manifest"
        raise InvalidBackup(f"The backup {problem}.")
    named: dict[str, dict[str, Any]] = manifest["files"]
    if damaged := [name for name, entry in named.items() if found.get(name) != entry]:
        raise InvalidBackup(f"The backup is damaged: {damaged[0]} is not what the manifest says.")
    if DATABASE not in named:
        raise InvalidBackup("The backup holds no central database.")
    for name in found.keys() - named.keys():  # of tenants erased while the backup was taken
        (staging / name).unlink()
        with contextlib.suppress(OSError):  # not empty yet, or not to be
            os.removedirs((staging / name).parent)


def _sync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
