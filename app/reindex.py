"""`lorebase reindex`: the documents of a data folder that no service has open, embedded anew.

For a changed embedding model: until then the service refuses to search vectors of another one.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import Progress

from app.service import DataFolderInUse, embedder_of, lock_data_folder
from app.settings import Settings
from app.tenants import CENTRAL_MIGRATIONS, Tenant, TenantDirectory
from ingest import DOCUMENT_MIGRATIONS, Database, Embedder, IngestError, embedder_of_vectors, reembed


def reindex(settings: Settings, *, every: bool) -> int:
    """Embed every tenant's chunks with the embedder that is set; the exit status.

    Interrupted in any way, the next call goes on; a tenant's former vectors stay in use until all its new ones are
    there.

    Args:
        every: also those tenants whose vectors are of this embedder already.
    """
    console = Console(stderr=True)
    if not (settings.data / "lorebase.db").is_file():
        print(f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.", file=sys.stderr)  # noqa: T201
        return 1
    try:
        with lock_data_folder(settings.data):
            directory = TenantDirectory(Database(settings.data / "lorebase.db", CENTRAL_MIGRATIONS))
            try:
                with Progress(console=console) as progress:
                    for tenant in directory.tenants():
                        _reindex_tenant(settings, tenant, embedder_of(settings), every, progress)
            finally:
                directory.close()
    except (DataFolderInUse, IngestError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _reindex_tenant(settings: Settings, tenant: Tenant, embedder: Embedder, every: bool, progress: Progress) -> None:
    path = settings.data / "tenants" / tenant.id / "lorebase.db"
    if not path.is_file():  # never used yet
        return
    database = Database(path, {"documents": DOCUMENT_MIGRATIONS})
    try:
        with database.read() as connection:
            stored = embedder_of_vectors(connection)
        if stored is None or (stored == embedder.fingerprint and not every):
            progress.console.print(f"{tenant.name}: nothing to do")
            return
        task = progress.add_task(tenant.name)
        reembed(database, embedder, lambda done, total: progress.update(task, completed=done, total=total))
    finally:
        database.close()
