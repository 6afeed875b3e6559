"""`lorebase audit`: what was changed, and by which key."""

from __future__ import annotations

from typing import Annotated

import typer

from app.terminal.failures import CommandFailed
from app.terminal.output import table
from app.terminal.session import Session, on_service

group = typer.Typer(no_args_is_help=True, add_completion=False, help="What was changed, and by which key.")


@group.command("list")
@on_service()
def list_entries(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """The entries, newest first."""
    page = session.client.audit(offset=offset, limit=limit)
    rows = [
        (each.number, f"{each.at:%Y-%m-%d %H:%M:%S}", each.key_id, each.action, each.status,
         ", ".join(f"{name} {value}" for name, value in each.object.items()))
        for each in page.entries
    ]  # fmt: skip
    columns = ("number", "at (UTC)", "key", "action", "status", "object")
    session.output.result(page, table(columns, rows, "Nothing was changed yet."))


@group.command()
@on_service()
def verify(session: Session) -> None:
    """Compute the hashes of all entries anew: is the log what was written? Exit code 1 when it is not."""
    found = session.client.verify_audit()
    session.output.result(found, f"{found.entries} entries, head {found.head}")
    if not found.valid:
        raise CommandFailed(f"Entry {found.broken_at} is not what was written.", "audit_broken")
