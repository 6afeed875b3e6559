"""What can be wrong with the files of adapters in the store that LOREBASE_ADAPTER_STORE names: for
`app.folder_diagnosis`, which looks at those in the data folder.

Looks, and changes nothing. Knows registries, hashes and the store; where they are stands in the settings.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from adapters import FileState, open_object_store
from adapters.errors import AdapterError
from app.adapter_store import belongs_to, lost_objects
from app.backup import ADAPTERS, DATABASE, TENANTS
from app.database_diagnosis import registries, service_of_store
from app.findings import Finding, reading
from app.settings import Settings

_REGISTER_AGAIN = "delete the version and upload it again."


def look_at_store(settings: Settings) -> Iterator[Finding]:
    """The store can be reached, is the service's, and has all files that are registered."""
    assert settings.adapter_store is not None  # noqa: S101 - the caller's duty
    try:
        objects = open_object_store(settings.adapter_store)
        owner = belongs_to(objects)
        lost = sorted(lost_objects(objects, _registered(settings).items()))
    except AdapterError as error:
        yield Finding("adapter", "wrong", str(error), "The service is not ready before; docs/operations.md has more.")
        return
    own = _known_as(settings)
    if owner != own and own is not None:
        mend = "Set LOREBASE_ADAPTER_STORE to the store of this service's adapters, or copy all objects from there."
        yield Finding("adapter", "wrong", f"{objects.place} belongs to another service, or to none", mend)
    for key in lost:
        yield Finding("adapter", "wrong", f"{objects.place} lacks {key}", f"Restore the object, or {_REGISTER_AGAIN}")
    if not lost and owner == own:
        yield Finding("adapter", "ok", f"{objects.place} has every file that is registered")


def _registered(settings: Settings) -> dict[str, bytes | None]:
    """What the registries say, by tenant."""
    states = {folder.parent.name: FileState(folder).read() for folder in settings.data.glob(f"{TENANTS}/*/{ADAPTERS}")}
    return {**states, **(registries(settings.database_url.get_secret_value()) if settings.database_url else {})}


def _known_as(settings: Settings) -> str | None:
    """What the store should know this service by; None where nobody has told it yet."""
    if settings.database_url is not None:
        return service_of_store(settings.database_url.get_secret_value())
    central = settings.data / DATABASE
    if not central.is_file():
        return None
    try:
        with closing(reading(central)) as connection:
            row = connection.execute("SELECT id FROM adapter_store").fetchone()
    except sqlite3.Error:  # of an older version, or damaged, which the check of databases tells
        return None
    return None if row is None else str(row[0])
