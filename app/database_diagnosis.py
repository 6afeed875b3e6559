"""What can be wrong with the PostgreSQL database of a service: for `app.diagnosis`, where LOREBASE_DATABASE_URL is set.

Looks, and changes nothing. Knows components and tables; where the database is stands in the settings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from app.findings import Finding
from app.postgres_schema import CENTRAL_TABLES, TENANT_TABLES
from app.storage import BELONGS_TO
from ingest import DatabaseUnavailable, IngestError, UnsuitableDatabase


def look_at(url: str, data: Path, *, vector_search: bool = False) -> Iterator[Finding]:
    """What a database is found to be, whether it belongs to a data folder, and with ``vector_search`` whether it can
    search vectors."""
    try:
        from ingest.postgres import (
            DOCUMENT_TABLES,
            VECTOR_SEARCH,
            VECTOR_TABLES,
            connected,
            extension_problem,
            look,
        )
    except ImportError:
        yield Finding("database", "wrong", "the driver psycopg is not installed", "pip install 'lorebase[postgres]'")
        return
    known = {**CENTRAL_TABLES, "documents": DOCUMENT_TABLES, **TENANT_TABLES, VECTOR_SEARCH: VECTOR_TABLES}
    try:
        facts = look(url)
    except DatabaseUnavailable as error:
        yield Finding("database", "wrong", str(error), "Start the server, or set LOREBASE_DATABASE_URL to where it is.")
        return
    except UnsuitableDatabase as error:
        yield Finding("database", "wrong", str(error), "Then set LOREBASE_DATABASE_URL to it.")
        return
    newer = [name for name, version in facts.components.items() if version > len(known.get(name, ()))]
    if newer:
        mend = "Use the newer version of this software that wrote them."
        yield Finding("database", "wrong", f"tables of a newer version: {', '.join(newer)}", mend)
        return
    if vector_search:
        with connected(url) as connection:
            if (problem := extension_problem(connection)) is not None:
                yield Finding("vector search", "wrong", problem, "The service does not start before that.")
            else:
                yield Finding("vector search", "ok", "by pgvector, in the database")
    said = f"PostgreSQL {facts.version}, {_served(facts.processes)}"
    if not facts.components:
        yield Finding("database", "ok", f"{said}, no tables yet; the first start makes them")
        return
    with connected(url) as connection:
        row = connection.execute("SELECT id FROM identity").fetchone()
        tenants = [each["id"] for each in connection.execute("SELECT id FROM tenants")]
        counts: Counter[str] = Counter()
        for tenant_id in tenants:
            connection.execute("SELECT set_config('lorebase.tenant', %s, false)", (tenant_id,))
            rows = connection.execute("SELECT status, count(*) AS number FROM documents GROUP BY status")
            counts.update({each["status"]: each["number"] for each in rows})
    marker = data / BELONGS_TO
    if marker.is_file() and row is not None and json.loads(marker.read_text()).get("database") != row["id"]:
        mend = "Set LOREBASE_DATA to the folder of this database, or to a new one."
        yield Finding("database", "wrong", f"{data} belongs to another PostgreSQL database", mend)
        return
    yield Finding("database", "ok", said)
    yield Finding("tenants", "ok", f"{len(tenants)} tenants")
    if counts:
        told = ", ".join(f"{counts[status]} {status}" for status in ("ready", "pending", "failed") if counts[status])
        mend = "`lorebase documents list --status failed` says why; delete them, or send them anew."
        yield Finding("documents", "warning" if counts["failed"] else "ok", told, mend if counts["failed"] else "")


def _served(processes: int) -> str:
    if not processes:
        return "not served now"
    return f"served now by {processes} {'process' if processes == 1 else 'processes'}"


def registries(url: str) -> dict[str, bytes]:
    """What the registries of adapters say, by tenant; nothing where the database cannot be looked at, which `look_at`
    tells."""
    try:
        from ingest.postgres import connected, look

        if "registry" not in look(url).components:
            return {}
    except (ImportError, IngestError):
        return {}
    found = {}
    with connected(url) as connection:
        for row in connection.execute("SELECT id FROM tenants").fetchall():
            connection.execute("SELECT set_config('lorebase.tenant', %s, false)", (row["id"],))
            state = connection.execute("SELECT body FROM adapter_registry").fetchone()
            if state is not None:
                found[row["id"]] = state["body"].encode()
    return found


def service_of_store(url: str) -> str | None:
    """What a store of adapters' files should know the service by; None where nobody has told it yet, or the database
    cannot be looked at."""
    try:
        from ingest.postgres import connected, look

        if look(url).components.get("central", 0) < len(CENTRAL_TABLES["central"]):
            return None
    except (ImportError, IngestError):
        return None
    with connected(url) as connection:
        row = connection.execute("SELECT id FROM adapter_store").fetchone()
    return None if row is None else str(row["id"])
