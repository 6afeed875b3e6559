"""What can be wrong with a data folder, and how each is mended: its keys, its databases, tenants, documents
and adapters' files.

Looks, and changes nothing: databases are opened for reading, also beside a running service. Knows where things lie; the
rows in PostgreSQL are `app.database_diagnosis`'.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from adapters import UNLISTED, AdapterRef, FileState, FolderFiles, damage_of, registered_in
from adapters.errors import RegistryDamaged
from app.adapter_diagnosis import look_at_store
from app.backup import ADAPTERS, DATABASE, TENANTS
from app.data_folder import DataFolderInUse, DataFolderUnusable, lock_data_folder, misplaced
from app.database_diagnosis import look_at, registries
from app.findings import Finding, nearest, reading
from app.keys_file import KEYS_FILE
from app.search_models import embedder_of
from app.settings import Settings
from app.storage import TENANT_MIGRATIONS, is_lost, knows_no_tenant
from app.tenant_folders import REMOVED
from app.tenants import CENTRAL_MIGRATIONS
from ingest import IngestError, Migration, embedder_of_vectors

_LIST_AGAIN = (
    "Stop the service, keep a copy of the folder, and bring registry.json back from a backup (lorebase restore FILE, "
    "to a new folder); without one move it away, and register versions by their folders: lorebase adapters upload "
    "NAME FOLDER"
)
_RESTORE = "Stop the service, keep a copy of the folder, and restore a backup: lorebase restore FILE"


def check_folder(settings: Settings) -> Iterator[Finding]:
    """The data folder: that it can be written, that its keys are private, and who has it."""
    data = settings.data
    if not data.exists():
        place = nearest(data)
        writable = os.access(place, os.W_OK | os.X_OK)
        mend = "" if writable else f"Let this user write to {place}, or set LOREBASE_DATA to another folder."
        yield Finding(
            "data", "ok" if writable else "wrong", f"{data.absolute()} is not there yet; the first start makes it", mend
        )
        return
    if not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        mend = "Let this user read and write it, or set LOREBASE_DATA to another folder."
        yield Finding("data", "wrong", f"{data.absolute()} is no folder that this user may write", mend)
        return
    if (reason := misplaced(data)) is not None:
        yield Finding("data", "wrong", reason, "Move it away, or set LOREBASE_DATA to another folder.")
        return
    keys = data / KEYS_FILE
    if keys.is_file() and keys.stat().st_mode & 0o077:
        yield Finding("keys", "wrong", f"{keys} can be read by others", f"chmod 600 {keys}, and make new keys.")
    if knows_no_tenant(data):
        mend = (
            "Do not start the service; keep a copy of the folder, and bring the file back, or restore a backup to a "
            "new folder: lorebase restore FILE"
        )
        yield Finding(
            "data",
            "wrong",
            f"{data / DATABASE} is lost: tenants' names, keys and limits, and whose the folders are",
            mend,
        )
        return
    if not (data / DATABASE).is_file():
        yield Finding("data", "ok", f"{data.absolute()} is empty; the first start fills it")
        return
    yield Finding("data", "ok", f"{data.absolute()}, {'served now' if is_held(data) else 'not served now'}")


def is_held(data: Path) -> bool:
    """Whether a process has the data folder."""
    try:
        with lock_data_folder(data):
            return False
    except DataFolderUnusable:  # nobody can have it
        return False
    except DataFolderInUse:
        return True


def check_databases(settings: Settings) -> Iterator[Finding]:
    """Every database is there, whole and of a version that is known; every tenant has its folder and every folder its
    tenant."""
    if settings.database_url is not None:
        vector_search = settings.vector_search == "database"
        url = settings.database_url.get_secret_value()
        yield from look_at(url, settings.data, vector_search=vector_search)
        return
    if knows_no_tenant(settings.data):  # told by the check of the folder
        return
    paths, names = databases(settings.data), tenant_names(settings.data)
    troubles = [found for path in paths if (found := _trouble_with(settings.data, path, names)) is not None]
    for folder in sorted((settings.data / TENANTS).glob("*")):
        if folder.name in names and is_lost(folder) and not (folder / DATABASE).is_dir():
            what = f"{folder / DATABASE} is lost: documents, jobs, answers and rules of {names[folder.name]}"
            kept = ADAPTERS if (folder / ADAPTERS).is_dir() else "other files"
            troubles.append(Finding("database", "wrong", f"{what}; its {kept} are there", _restored(folder)))
        elif folder.name in names and not folder.is_dir():
            what = f"{folder} is a file, where the folder of {names[folder.name]} should be"
            troubles.append(Finding("database", "wrong", what, _restored(folder)))
    yield from troubles
    for tenant_id in sorted(_used(settings.data)):
        folder = settings.data / TENANTS / tenant_id
        if tenant_id in names and not folder.exists() and not folder.with_name(tenant_id + REMOVED).exists():
            what = f"{folder} is not there, and keys of {names[tenant_id]} have been used: all of it may be lost"
            yield Finding("tenants", "warning", what, _restored(folder))
    if paths and not troubles:
        yield Finding("database", "ok", f"{len(paths)} databases are whole")
        yield from _strays(settings.data, names)


def _trouble_with(data: Path, path: Path, names: dict[str, str]) -> Finding | None:
    central = path.parent == data
    whose = "tenants, keys and limits" if central else f"of {names.get(path.parent.name, 'no tenant that is known')}"
    mend = _RESTORE if central else _restored(path.parent)
    if not path.is_file():
        return Finding("database", "wrong", f"{path} ({whose}): is a folder, where a file should be", mend)
    if (trouble := database_trouble(path)) is not None:
        return Finding("database", "wrong", f"{path} ({whose}): {trouble}", mend)
    if newer := _newer(path, CENTRAL_MIGRATIONS if central else TENANT_MIGRATIONS):
        mend = "Use the newer version of this software that wrote them, or restore an older backup to a new folder."
        return Finding("database", "wrong", f"{path} ({whose}): tables of a newer version: {', '.join(newer)}", mend)
    return None


def _newer(path: Path, known: Mapping[str, Sequence[Migration]]) -> list[str]:
    """Components of a database that a newer version wrote."""
    with closing(reading(path)) as connection:
        try:
            rows = connection.execute("SELECT component, version FROM schema_version").fetchall()
        except sqlite3.OperationalError:  # none of the service's
            return []
    return [str(row[0]) for row in rows if row[1] > len(known.get(row[0], ()))]


def _restored(folder: Path) -> str:
    return (
        f"Stop the service, keep a copy of the folder, restore a backup to a new folder (lorebase restore FILE), and "
        f"use that, or copy {TENANTS}/{folder.name} from there."
    )


def tenant_names(data: Path) -> dict[str, str]:
    """What the tenants are called, by id; nothing where the central database cannot be read."""
    try:
        with closing(reading(data / DATABASE)) as connection:
            return {str(row[0]): f"tenant {row[1]!r}" for row in connection.execute("SELECT id, name FROM tenants")}
    except sqlite3.Error:
        return {}


def databases(data: Path) -> list[Path]:
    """The central database and the tenants'."""
    central = data / DATABASE
    if not central.exists():
        return []
    own = [path for path in sorted(data.glob(f"{TENANTS}/*/{DATABASE}")) if path.is_dir() or not is_lost(path.parent)]
    return [central, *own]


def database_trouble(path: Path) -> str | None:
    """What is wrong with a database; None when it is whole."""
    try:
        with closing(reading(path)) as connection:
            told = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        return str(error)
    if told != ["ok"]:
        return "; ".join(told)
    return None if broken is None else f"a row of {broken[0]} refers to nothing"


def _used(data: Path) -> list[str]:
    """Tenants with keys that were used; none where that cannot be read."""
    try:
        with closing(reading(data / DATABASE)) as connection:
            rows = connection.execute("SELECT DISTINCT tenant_id FROM keys WHERE last_used_at IS NOT NULL").fetchall()
    except sqlite3.Error:
        return []
    return [str(row[0]) for row in rows if row[0] is not None]


def _strays(data: Path, names: Collection[str]) -> Iterator[Finding]:
    tenants = {*names}
    folders = {path.name for path in (data / TENANTS).glob("*") if path.is_dir()}
    removed = sorted(name for name in folders if name.endswith(REMOVED))
    if stray := sorted(folders - tenants - {*removed}):
        mend = (
            f"If {DATABASE} is of an earlier day, bring the later one back, or restore a backup to a new folder. If "
            "nobody needs them, delete them."
        )
        yield Finding("tenants", "warning", f"folders of no tenant: {', '.join(stray)}", mend)
    elif removed:
        mend = "The next start removes them." if not is_held(data) else "The service removes them when it starts again."
        yield Finding("tenants", "warning", f"folders of removed tenants: {', '.join(removed)}", mend)
    else:
        yield Finding("tenants", "ok", f"{len(tenants)} tenants")


def check_indexes(settings: Settings) -> Iterator[Finding]:
    """Every tenant's vectors are of the embedder that is set."""
    other, asked = [], 0
    for path in databases(settings.data)[1:]:
        try:
            with closing(reading(path)) as connection:
                stored = embedder_of_vectors(connection)
            if stored is not None:
                asked += 1
                other += [path.parent.name] if stored != embedder_of(settings).fingerprint else []
        except (sqlite3.Error, IngestError):  # told by the checks of databases and models
            continue
    if other:
        mend = "Stop the service and run `lorebase reindex`, or set LOREBASE_EMBEDDER back."
        yield Finding("index", "wrong", f"vectors of another embedder: tenants {', '.join(other)}", mend)
    elif asked:
        yield Finding("index", "ok", f"the vectors of {asked} tenants are of the embedder that is set")


def check_documents(settings: Settings) -> Iterator[Finding]:
    """How many documents there are, and which tenants have some that failed."""
    counts: Counter[str] = Counter()
    failed: list[str] = []
    for path in databases(settings.data)[1:]:
        try:
            with closing(reading(path)) as connection:
                found = dict(connection.execute("SELECT status, count(*) FROM documents GROUP BY status").fetchall())
        except sqlite3.Error:  # told by the check of databases
            continue
        counts.update(found)
        failed += [path.parent.name] if found.get("failed") else []
    if not counts:
        return
    said = ", ".join(f"{counts[status]} {status}" for status in ("ready", "pending", "failed") if counts[status])
    if failed:
        mend = "`lorebase documents list --status failed` says why; delete them, or send them anew."
        yield Finding("documents", "warning", f"{said}; failed of tenants {', '.join(failed)}", mend)
    else:
        yield Finding("documents", "ok", said)


def check_adapters(settings: Settings) -> Iterator[Finding]:
    """Every registered version has the files that were registered, and every version is in its list."""
    if settings.adapter_store is not None:
        yield from look_at_store(settings)
        return
    versions = 0
    states = registries(settings.database_url.get_secret_value()) if settings.database_url else {}
    names = tenant_names(settings.data) if settings.database_url is None else {}
    for folder in sorted(settings.data.glob(f"{TENANTS}/*/{ADAPTERS}")):
        whose = names.get(folder.parent.name, f"tenant {folder.parent.name}")
        try:
            state = states.get(folder.parent.name) or FileState(folder).read()
            registered = registered_in(state, FolderFiles(folder))
        except (RegistryDamaged, OSError):
            yield Finding("adapter", "wrong", f"{folder}: the list of adapters of {whose} cannot be read", _LIST_AGAIN)
            continue
        yield from _unlisted(folder, whose, is_listed=state is not None or settings.database_url is not None)
        for ref in registered:
            versions += 1
            if (what := damage_of(ref)) is not None:
                yield _damaged(ref, whose, what)
    if versions:
        yield Finding("adapter", "ok", f"{versions} versions looked at")


def _unlisted(folder: Path, whose: str, *, is_listed: bool) -> Iterator[Finding]:
    """Versions whose files are there, and that no list names."""
    aside = [each.name for each in sorted(folder.iterdir()) if each.suffix == UNLISTED]
    if not is_listed and (left := [each.name for each in sorted(folder.iterdir()) if each.is_dir()]):
        what = f"{folder}: the list of adapters of {whose} is lost; files of versions are there: {', '.join(left)}"
        yield Finding("adapter", "wrong", what, _LIST_AGAIN)
    elif aside:
        mend = "Register those that are wanted again (lorebase adapters upload NAME FOLDER), and delete the folders."
        yield Finding("adapter", "warning", f"{folder}: versions of {whose} in no list: {', '.join(aside)}", mend)


def _damaged(ref: AdapterRef, whose: str, what: str) -> Finding:
    name = ref.name.partition("@")[0]
    mend = (
        f"Let the version before it answer (lorebase adapters rollback {name}), and import this one again (lorebase "
        f"adapters upload {name} FOLDER); or restore a backup."
    )
    return Finding("adapter", "wrong", f"{ref.name} of {whose}: {what} in {ref.folder}", mend)
