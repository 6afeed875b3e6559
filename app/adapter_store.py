"""The store that adapters' files lie in where several hosts serve one database: LOREBASE_ADAPTER_STORE.

Knows which service a store belongs to, what lies there of which tenant, and what is left over; how bytes get there is
`adapters.ObjectStore`'s. Keys are made of ids that the service made: ``tenants/<tenant>/<version's files>/<file>``.
Beside them lie the id of the service, and the id of each tenant that was removed: what a crash or an outage kept of one
is deleted by a later start, and so are the copies of a host that was not there.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adapters import (
    VERSION_FILES,
    AdapterCache,
    FileState,
    KeptFiles,
    ObjectStore,
    StoredFiles,
    VersionFiles,
    fetch_files,
    files_in,
    key_of,
)
from adapters.errors import AdapterFilesUnavailable
from app.backup import ADAPTERS, TENANTS
from ingest import STORAGE_ERRORS, Database, IngestError

if TYPE_CHECKING:
    from app.storage import Storage
    from app.tenants import TenantDirectory

_log = logging.getLogger("lorebase.adapters")
STORE_TABLE = """
CREATE TABLE adapter_store (
    one integer PRIMARY KEY CHECK (one = 1),
    id text NOT NULL,                      -- what the store knows this service by
    place text NOT NULL,
    claimed integer NOT NULL               -- whether the store has been told
)
"""
"""A migration of the central tables, of either kind."""
MARKER = "lorebase.json"
_REMOVED = "removed"
_COPIES = f"*/{ADAPTERS}/*"
_LONGEST_ADDING_SECONDS = 3600.0
_LOOK_SECONDS = 3.0  # between two looks at whether the store can be used
_NAMED = 3

ReadState = Callable[[str, Path], bytes | None]
"""What a tenant's registry says, by the tenant's id and the folder of its adapters."""


class AdapterStoreMismatch(Exception):
    """The store and the service do not belong together; the message says what to do."""


class AdapterStore:
    """The adapters' files of a service, in an object store.

    Args:
        central: remembers which store is the service's.
        data: the data folder, where copies are kept: ``cache_bytes`` of them.
    """

    def __init__(self, objects: ObjectStore, central: Database, data: Path, cache_bytes: int) -> None:
        self._objects, self._central, self._tenants = objects, central, data / TENANTS
        self._cache = AdapterCache(self._tenants, _COPIES, cache_bytes)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self._objects.place

    def files_of(self, tenant_id: str, folder: Path) -> VersionFiles:
        """The files of a tenant's versions, with copies in ``folder``."""
        return StoredFiles(folder, _prefix(tenant_id), self._objects, self._cache)

    def claim(self) -> None:
        """Make sure that the store is this service's. Called by one process at a time.

        Raises:
            AdapterStoreMismatch, AdapterFilesUnavailable
        """
        told = self._objects.read(MARKER)
        own, claimed = _own(self._central)
        if own is None:
            if told is not None:
                raise AdapterStoreMismatch(_of_another(self.place))
            own = uuid.uuid4().hex
            with self._central.write() as connection:
                connection.execute(
                    "INSERT INTO adapter_store (one, id, place, claimed) VALUES (1, ?, ?, 0)", (own, self.place)
                )
        if told is None and claimed:
            raise AdapterStoreMismatch(
                f"The store of adapter files at {self.place} is not the one that this service's lie in: it has no "
                f"{MARKER}. Set LOREBASE_ADAPTER_STORE to that one, or copy all objects of that one here; to begin "
                f'with an empty one, put the object {MARKER} there yourself: {{"service": "{own}"}}.'
            )
        if told is not None and _service(told) != own:
            raise AdapterStoreMismatch(_of_another(self.place))
        if told is None:
            self._objects.put(MARKER, json.dumps({"service": own}).encode())
        with self._central.write() as connection:
            connection.execute("UPDATE adapter_store SET place = ?, claimed = 1", (self.place,))

    def settle(self, tenant_ids: Callable[[], Iterable[str]], read_state: ReadState, *, alone: bool) -> None:
        """Bring what a registry names and only this data folder has into the store, and delete what none names.

        Args:
            alone: whether this process alone adds versions, so that what is young is left over too.

        Raises:
            AdapterFilesUnavailable: what was done is done; call it again.
        """
        found = {each.key: each.changed_at for each in self._objects.list(TENANTS)}
        removed = {each.key.partition("/")[2]: each.changed_at for each in self._objects.list(_REMOVED)}
        known, kept, lost = set(tenant_ids()), set[str](), list[str]()
        for tenant_id in known:
            adapters = self._tenants / tenant_id / ADAPTERS
            for files in files_in(read_state(tenant_id, adapters)):
                keys = [key_of(_prefix(tenant_id), files.name, file) for file in VERSION_FILES]
                kept.update(keys)
                if not found.keys() >= set(keys) and not self._bring_along(files, adapters, tenant_id):
                    lost += [key for key in keys if key not in found]
        if lost:  # or another process has put them just now
            lost = sorted({*lost} - {each.key for each in self._objects.list(TENANTS)})
        if lost:
            _log.error(
                "%s files of adapters are missing in %s, such as %s: restore them, or delete these versions; "
                "`lorebase doctor` names all", len(lost), self.place, lost[:_NAMED],
            )  # fmt: skip
        latest = time.time() - (0.0 if alone else _LONGEST_ADDING_SECONDS)
        of_whom = {key: key.split("/")[1] for key in found.keys() - kept}
        erased = removed.keys() - known
        left = [key for key, of in of_whom.items() if of in erased or (of in known and found[key] < latest)]
        if left:
            _log.info("%s files of adapters that no version names are deleted", len(left))
            self._objects.delete(left)
        if strangers := {of for of in of_whom.values() if of not in known and of not in removed}:
            _log.warning("%s has files of %s tenants that the database does not know", self.place, len(strangers))
        self._objects.delete(f"{_REMOVED}/{of}" for of, at in removed.items() if of in known and at < latest)
        for tenant_id in erased:
            shutil.rmtree(self._tenants / tenant_id, ignore_errors=True)
        self._cache.begin()

    def wait_until_settled(
        self, storage: Storage, directory: TenantDirectory, stopping: threading.Event, say: Callable[[str], None]
    ) -> bool:
        """`claim` and `settle`, as soon as the store can be reached; false when ``stopping`` came first.

        Args:
            say: told why it cannot be used yet.

        Raises:
            AdapterStoreMismatch
        """
        said = ""
        while not stopping.is_set():
            try:
                with storage.starting():
                    self.claim()
                self.settle(
                    lambda: [tenant.id for tenant in directory.tenants()],
                    lambda tenant_id, folder: storage.registry_state(tenant_id, folder).read(),
                    alone=not storage.is_remote,
                )
            except (AdapterFilesUnavailable, *STORAGE_ERRORS, IngestError) as error:
                if said != str(error):
                    said = str(error)
                    _log.warning("not ready: %s", said)
                    say(said)
                stopping.wait(_LOOK_SECONDS)
            else:
                return True
        return False

    def mark_removed(self, tenant_id: str) -> None:
        """Note in the store that a tenant is about to be removed. Raises AdapterFilesUnavailable."""
        self._objects.put(f"{_REMOVED}/{tenant_id}", b"{}")

    def erase_tenant(self, tenant_id: str) -> None:
        """Delete what a removed tenant has in the store. Raises AdapterFilesUnavailable."""
        self._objects.delete([each.key for each in self._objects.list(_prefix(tenant_id))])

    def _bring_along(self, files: KeptFiles, adapters: Path, tenant_id: str) -> bool:
        """Put a version into the store that only this folder has; whether it has it."""
        folder = adapters / files.name
        with self._cache.using(folder) as is_there:
            if not is_there or not files.are_in(folder):
                return False
            for file in VERSION_FILES:
                self._objects.put(key_of(_prefix(tenant_id), files.name, file), folder / file)
        _log.info("an adapter version of tenant %s was brought into %s", tenant_id, self.place)
        return True


def store_of_service(
    objects: ObjectStore | None, central: Database, data: Path, cache_bytes: int
) -> AdapterStore | None:
    """The store of a service; None where its adapters lie in the data folder.

    Raises:
        AdapterStoreMismatch: no store is set, and the service has one.
    """
    if objects is not None:
        return AdapterStore(objects, central, data, cache_bytes)
    with central.read() as connection:
        row = connection.execute("SELECT place FROM adapter_store").fetchone()
    if row is not None:
        raise AdapterStoreMismatch(
            f"The files of this service's adapters are in {row['place']}: set LOREBASE_ADAPTER_STORE to it. Once all "
            "objects are copied into a folder, it may be file:///folder too."
        )
    return None


def lost_objects(objects: ObjectStore, registered: Iterable[tuple[str, bytes | None]]) -> Iterator[str]:
    """The keys of files that registries name, given by tenant and text, and the store has not."""
    found = {each.key for each in objects.list(TENANTS)}
    for tenant_id, text in registered:
        for files in files_in(text):
            yield from {key_of(_prefix(tenant_id), files.name, file) for file in VERSION_FILES} - found


def belongs_to(objects: ObjectStore) -> str | None:
    """The service that a store says it belongs to. Raises AdapterFilesUnavailable."""
    told = objects.read(MARKER)
    return None if told is None else _service(told)


def fetch_registered(objects: ObjectStore, tenant_id: str, adapters: Path) -> None:
    """Complete a folder that has a registry's file, and some of its versions, from the store. Raises
    AdapterFilesUnavailable."""
    for files in files_in(FileState(adapters).read()):
        folder = adapters / files.name
        if not all((folder / file).is_file() for file in VERSION_FILES):
            folder.mkdir(exist_ok=True)
            for file in VERSION_FILES:  # a link to a copy, which must not be written to
                (folder / file).unlink(missing_ok=True)
            fetch_files(objects, _prefix(tenant_id), files, folder)


def _own(central: Database) -> tuple[str | None, bool]:
    with central.read() as connection:
        row = connection.execute("SELECT id, claimed FROM adapter_store").fetchone()
    return (None, False) if row is None else (str(row["id"]), bool(row["claimed"]))


def _prefix(tenant_id: str) -> str:
    return f"{TENANTS}/{tenant_id}"


def _service(told: bytes) -> str | None:
    try:
        return str(json.loads(told)["service"])
    except (ValueError, KeyError, TypeError):
        return None


def _of_another(place: str) -> str:
    return (
        f"The store of adapter files at {place} belongs to another service: set LOREBASE_ADAPTER_STORE to another "
        f"folder or prefix. If that service runs no more and this one goes on from its backup, delete {MARKER} there."
    )
