"""`lorebase backup` and `lorebase restore`: by itself on a data folder, or through the service that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from adapters import open_object_store
from app.adapter_store import fetch_registered
from app.backup import DATABASE, TENANTS, InvalidBackup, backup, is_complete, restore
from app.client import LorebaseClient, ServiceError
from app.data_folder import DataFolderInUse, lock_data_folder
from app.keys_file import kept_key
from app.settings import Settings
from app.storage import StorageMismatch, knows_no_tenant, open_central, refuse_lost
from app.tenants import TenantDirectory
from app.terminal.failures import CommandFailed, Exit, told
from app.terminal.output import Output
from app.terminal.session import AsJson
from ingest import SqliteDatabase


def backup_command(
    target: Annotated[Path, typer.Argument(help="The archive to write, such as lorebase.tar.")],
    tenant: Annotated[str | None, typer.Option(help="Only the tenant of this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write everything the data folder holds, but no keys, to one archive; also while the service works.

    The folder is LOREBASE_DATA's. Where a service has it, LOREBASE_HOST and LOREBASE_PORT say where to ask for it.
    """
    with told(as_json=as_json):
        Output(as_json=as_json).result(*write_backup(Settings(), target, tenant))


def restore_command(
    source: Annotated[Path, typer.Argument(help="An archive that `lorebase backup` wrote.")], as_json: AsJson = False
) -> None:
    """Make the data folder LOREBASE_DATA, which must be new or empty, from a backup."""
    with told(as_json=as_json):
        settings = Settings()
        try:
            with source.open("rb") as archive, _progress() as progress:
                task = progress.add_task("restoring", total=source.stat().st_size)
                tenants = restore(archive, settings.data, lambda done, _: progress.update(task, completed=done))
        except InvalidBackup as error:
            raise CommandFailed(str(error), "invalid_backup") from error
        Output(as_json=as_json).result(
            {"data": str(settings.data), "tenants": tenants},
            f"{settings.data} is restored, with {tenants} tenants and the keys they had. "
            "The admin key is the former one too; LOREBASE_ADMIN_KEY sets another.",
        )


def write_backup(settings: Settings, target: Path, tenant_id: str | None = None) -> tuple[dict[str, object], str]:
    """Write a backup of the data folder, or of one tenant, to ``target``, which appears when it is complete; what was
    done, in facts and in words.

    Raises:
        CommandFailed, ServiceError, OSError, IngestError: there is no backup; nothing is left of it.
    """
    if settings.database_url is not None:
        raise CommandFailed(
            f"The rows are in PostgreSQL: back them up with pg_dump, and with them what holds the adapters: the folder "
            f"{settings.data}, or the store LOREBASE_ADAPTER_STORE.",
            "backup_elsewhere",
        )
    if not (settings.data / DATABASE).exists() and not knows_no_tenant(settings.data):
        raise CommandFailed(
            f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.", "no_data"
        )
    if target.exists():
        raise CommandFailed(f"{target} is there already; name a new file.", "file_exists")
    part = target.with_name(target.name + ".part")
    try:
        _take(settings, part, tenant_id)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    size = target.stat().st_size
    return {"file": str(target), "bytes": size}, f"The backup is in {target}: {size / 1024**2:.1f} MiB."


def _take(settings: Settings, part: Path, tenant_id: str | None) -> None:
    try:
        with lock_data_folder(settings.data):
            _write(part, _of_folder(settings, tenant_id))
    except StorageMismatch as error:
        raise CommandFailed(str(error), "storage_mismatch") from error
    except DataFolderInUse:
        _write(part, _of_service(settings, tenant_id))
    if not is_complete(part):
        raise CommandFailed("The backup broke off; the service's log says why. Try again.")


def _write(part: Path, pieces: Iterable[bytes]) -> None:
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file, _progress() as progress:
        task = progress.add_task("backing up", total=None)
        for piece in pieces:
            file.write(piece)
            progress.advance(task, len(piece))
        file.flush()
        os.fsync(file.fileno())


def _of_folder(settings: Settings, tenant_id: str | None) -> Iterator[bytes]:
    data = settings.data
    complete = (
        None if settings.adapter_store is None else partial(fetch_registered, open_object_store(settings.adapter_store))
    )
    with closing(open_central(data)) as central:
        if tenant_id is not None and TenantDirectory(central).tenant(tenant_id) is None:
            raise CommandFailed(
                f"There is no tenant {tenant_id} in {data}; `lorebase tenants list` has the ids.",
                "not_found",
                Exit.NOT_FOUND,
            )

        @contextmanager
        def open_tenant(tenant_id: str) -> Iterator[SqliteDatabase | None]:
            path = data / TENANTS / tenant_id / DATABASE
            refuse_lost(path.parent)
            if not path.is_file():
                yield None
                return
            with closing(SqliteDatabase(path, {})) as database:
                yield database

        yield from backup(data, central, open_tenant, only=tenant_id, complete=complete)


def _of_service(settings: Settings, tenant_id: str | None) -> Iterator[bytes]:
    given = settings.admin_key.get_secret_value() if settings.admin_key else kept_key(settings.data, admin=True)
    if given is None:
        raise CommandFailed(
            f"A service holds {settings.data}; set LOREBASE_ADMIN_KEY, so that it can be asked for a backup.",
            "no_key", Exit.REFUSED,
        )  # fmt: skip
    with LorebaseClient(settings.url, given, verify=settings.trusted) as client:
        try:
            yield from client.backup() if tenant_id is None else client.export_tenant(tenant_id)
        except ServiceError as error:
            if error.status:
                raise
            raise CommandFailed(
                f"A service holds {settings.data}, but gave no backup ({error.detail}). Set LOREBASE_HOST and "
                "LOREBASE_PORT as the service has them.",
                error.code, Exit.UNREACHABLE,
            ) from error  # fmt: skip


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    notes = Console(stderr=True)
    return Progress(*columns, console=notes, disable=not notes.is_terminal)
