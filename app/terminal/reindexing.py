"""`lorebase reindex`: the documents of a data folder that no service has open, embedded anew.

For a changed embedding model: until then the service refuses to search vectors of another one.
"""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.progress import Progress

from app.backup import DATABASE, TENANTS
from app.data_folder import DataFolderInUse, lock_data_folder
from app.search_models import embedder_of
from app.settings import Settings
from app.storage import StorageMismatch, knows_no_tenant, open_storage, refuse_lost
from app.tenants import Tenant, TenantDirectory
from app.terminal.failures import CommandFailed, Exit, told
from app.terminal.output import Output
from app.terminal.session import AsJson
from ingest import Database, DatabaseInUse, Embedder, embedder_of_vectors, reembed


def reindex_command(
    every: Annotated[bool, typer.Option("--every", help="Also tenants whose vectors are of this embedder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Embed all documents anew after LOREBASE_EMBEDDER changed. The service is stopped; interrupted, it goes on."""
    with told(as_json=as_json):
        reindex(Settings(), Output(as_json=as_json), every=every)


def reindex(settings: Settings, output: Output, *, every: bool) -> None:
    """Embed every tenant's chunks with the embedder that is set.

    Interrupted in any way, the next call goes on; a tenant's former vectors stay in use until all its new ones are
    there.

    Args:
        every: also those tenants whose vectors are of this embedder already.
    """
    url = settings.database_url.get_secret_value() if settings.database_url else None
    if url is None and not (settings.data / DATABASE).exists() and not knows_no_tenant(settings.data):
        raise CommandFailed(
            f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.",
            "no_data",
            Exit.NOT_FOUND,
        )
    done: list[str] = []
    try:
        with lock_data_folder(settings.data), closing(open_storage(settings.data, url, alone=True)) as storage:
            tenants = TenantDirectory(storage.central).tenants()
            with output.progress() as progress:
                for tenant in tenants:
                    folder = settings.data / TENANTS / tenant.id
                    if not storage.is_remote:
                        refuse_lost(folder)
                        if not (folder / DATABASE).is_file():  # never used yet
                            continue
                    with closing(storage.open_tenant(tenant.id, folder)) as own:
                        if _reindex_tenant(own, tenant, embedder_of(settings), every, progress):
                            done.append(tenant.name)
    except DataFolderInUse as error:
        raise CommandFailed(str(error), "data_folder_in_use") from error
    except DatabaseInUse as error:
        raise CommandFailed(str(error), "database_in_use") from error
    except StorageMismatch as error:
        raise CommandFailed(str(error), "storage_mismatch") from error
    names = f": {', '.join(done)}" if done else ""
    output.result(
        {"reindexed": done, "tenants": len(tenants)}, f"{len(done)} of {len(tenants)} tenants embedded anew{names}."
    )


def _reindex_tenant(database: Database, tenant: Tenant, embedder: Embedder, every: bool, progress: Progress) -> bool:
    """Whether there was anything to do."""
    with database.read() as connection:
        stored = embedder_of_vectors(connection)
    if stored is None or (stored == embedder.fingerprint and not every):
        return False
    task = progress.add_task(tenant.name, total=None)
    reembed(database, embedder, lambda done, total: progress.update(task, completed=done, total=total))
    return True
