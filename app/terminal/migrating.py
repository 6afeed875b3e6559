"""`lorebase migrate`: the rows of a data folder that no service has, moved into PostgreSQL, or back."""

from __future__ import annotations

from typing import Annotated

import typer

from app.backup import DATABASE
from app.data_folder import DataFolderInUse, lock_data_folder
from app.migration import KEPT, MigrationFailed, to_folder, to_postgresql
from app.settings import Settings
from app.storage import StorageMismatch
from app.terminal.failures import CommandFailed, Unusable, told
from app.terminal.output import Output
from app.terminal.session import AsJson
from ingest import DatabaseInUse

_URL = "postgresql://"


def migrate_command(
    to: Annotated[str | None, typer.Option(help="The database to move the rows into: postgresql://…")] = None,
    back: Annotated[str | None, typer.Option(help="The database to bring them back from, into the folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Move the rows of the data folder LOREBASE_DATA into a PostgreSQL database, or back into SQLite files.

    The service is stopped. Everything is compared after it was copied; interrupted, the next call goes on, and until
    the end the rows count where they were. A password need not stand here: PGPASSWORD and ~/.pgpass are heeded.
    """
    with told(as_json=as_json):
        url = to or back or ""
        if (to is None) == (back is None) or not url.startswith((_URL, "postgres://")):
            raise Unusable("Say where: --to postgresql://user@host/database, or --back with the same.")
        migrate(Settings(), url, Output(as_json=as_json), returning=back is not None)


def migrate(settings: Settings, url: str, output: Output, *, returning: bool) -> None:
    """Move rows, and say what it came to. Raises CommandFailed."""
    if not settings.data.is_dir():
        raise CommandFailed(
            f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.", "no_data"
        )
    move = to_folder if returning else to_postgresql
    try:
        with lock_data_folder(settings.data), output.progress() as progress:
            task = progress.add_task("tenants", total=None)
            moved = move(settings.data, url, lambda done, total: progress.update(task, completed=done, total=total))
    except DataFolderInUse as error:
        raise CommandFailed(str(error), "data_folder_in_use") from error
    except DatabaseInUse as error:
        raise CommandFailed(str(error), "database_in_use") from error
    except (StorageMismatch, MigrationFailed) as error:
        raise CommandFailed(str(error), "not_migrated") from error
    said = f"{moved.rows} rows of {moved.tenants} tenants are compared and there ({moved.kept} tenants were already). "
    if returning:
        said += f"They count in {settings.data} now: leave LOREBASE_DATABASE_URL unset. PostgreSQL keeps its own."
    else:
        said += (
            f"Set LOREBASE_DATABASE_URL to the database and keep LOREBASE_DATA. The SQLite files are kept as "
            f"{DATABASE}{KEPT}; delete them when all is well."
        )
    output.result({"tenants": moved.tenants, "rows": moved.rows, "already_there": moved.kept}, said)
