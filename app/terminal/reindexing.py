"""`lorebase reindex`: the documents of a data folder that no service has open, embedded anew.

For a changed embedding model: until then the service refuses to search vectors of another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from app.backup import DATABASE, TENANTS
from app.service import DataFolderInUse, embedder_of, lock_data_folder
from app.settings import Settings
from app.tenants import CENTRAL_MIGRATIONS, Tenant, TenantDirectory
from app.terminal.failures import CommandFailed, Exit, told
from app.terminal.output import Output
from app.terminal.session import AsJson
from ingest import DOCUMENT_MIGRATIONS, Embedder, SqliteDatabase, embedder_of_vectors, reembed


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
    if settings.database_url is not None:
        raise CommandFailed(
            "Documents in PostgreSQL cannot be embedded anew yet: set LOREBASE_EMBEDDER back, or bring them into the "
            "folder with `lorebase migrate --back`, embed them anew there, and move them again.",
            "not_supported",
        )
    if not (settings.data / DATABASE).is_file():
        raise CommandFailed(
            f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.",
            "no_data",
            Exit.NOT_FOUND,
        )
    done: list[str] = []
    try:
        with lock_data_folder(settings.data):
            directory = TenantDirectory(SqliteDatabase(settings.data / DATABASE, CENTRAL_MIGRATIONS))
            try:
                tenants = directory.tenants()
                with output.progress() as progress:
                    for tenant in tenants:
                        path = settings.data / TENANTS / tenant.id / DATABASE
                        if _reindex_tenant(path, tenant, embedder_of(settings), every, progress):
                            done.append(tenant.name)
            finally:
                directory.close()
    except DataFolderInUse as error:
        raise CommandFailed(str(error), "data_folder_in_use") from error
    names = f": {', '.join(done)}" if done else ""
    output.result(
        {"reindexed": done, "tenants": len(tenants)}, f"{len(done)} of {len(tenants)} tenants embedded anew{names}."
    )


def _reindex_tenant(path: Path, tenant: Tenant, embedder: Embedder, every: bool, progress: Progress) -> bool:
    """Whether there was anything to do."""
    if not path.is_file():  # never used yet
        return False
    database = SqliteDatabase(path, {"documents": DOCUMENT_MIGRATIONS})
    try:
        with database.read() as connection:
            stored = embedder_of_vectors(connection)
        if stored is None or (stored == embedder.fingerprint and not every):
            return False
        task = progress.add_task(tenant.name, total=None)
        reembed(database, embedder, lambda done, total: progress.update(task, completed=done, total=total))
        return True
    finally:
        database.close()
