"""`lorebase documents` and `lorebase usage`: what a tenant has stored, and what it has used."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from app.terminal.output import size, table
from app.terminal.session import Session, on_service

group = typer.Typer(no_args_is_help=True, add_completion=False, help="The documents a tenant has stored.")
DocumentId = Annotated[str, typer.Argument(help="The document's id.")]


@group.command("list")
@on_service()
def list_documents(
    session: Session,
    title: Annotated[str | None, typer.Option(help="A part of the title.")] = None,
    collection: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option(help="pending, ready or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    offset: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """The documents, newest first."""
    page = session.client.documents(offset=offset, limit=limit, collection=collection, status=status, title=title)
    rows = [(d.id, d.title, d.collection, d.status, d.chunks, size(d.bytes), d.error) for d in page.documents]
    columns = ("id", "title", "collection", "status", "chunks", "size", "error")
    shown = [table(columns, rows, "There are no documents.")]
    if page.total > offset + len(page.documents):
        shown.append(Text(f"{len(page.documents)} of {page.total}; --offset and --limit show others.", "dim"))
    session.output.result(page, *shown)


@group.command()
@on_service()
def show(session: Session, document_id: DocumentId) -> None:
    """One document's facts."""
    found = session.client.document(document_id)
    facts = [(name, value) for name, value in found.model_dump(mode="json").items() if value not in (None, {})]
    session.output.result(found, table(("field", "value"), facts, ""))


@group.command()
@on_service()
def text(session: Session, document_id: DocumentId) -> None:
    """The parsed text that citations point into."""
    found = session.client.document_text(document_id)
    if session.output.as_json:
        session.output.result({"id": document_id, "text": found})
    else:
        typer.echo(found)


@group.command()
@on_service()
def delete(session: Session, document_ids: Annotated[list[str], typer.Argument(help="Ids of documents.")]) -> None:
    """Forget documents."""
    done = session.client.delete_documents(ids=document_ids)
    missing = f"; there are no documents {', '.join(done.not_found)}" if done.not_found else ""
    session.output.result(done, f"{done.deleted} deleted{missing}.")


@on_service()
def usage(session: Session, days: Annotated[int, typer.Option(min=1, max=366, help="Days of the past.")] = 31) -> None:
    """What the tenant has and has used, beside its limits."""
    found = session.client.usage(days=days)
    limits = found.limits
    held = [
        ("documents", found.holds.documents, limits.documents),
        ("stored", size(found.holds.bytes), None if limits.bytes is None else size(limits.bytes)),
        ("adapter versions", found.holds.adapter_versions, limits.adapter_versions),
        ("tokens today", found.today.tokens, limits.tokens_per_day),
        ("training minutes today", found.today.training_minutes, limits.training_minutes_per_day),
    ]
    rows = [(what, used, "unlimited" if limit is None else limit) for what, used, limit in held]
    past = [(day.day, day.requests, day.questions, day.tokens, day.training_minutes) for day in found.days]
    columns = ("day", "requests", "questions", "tokens", "training minutes")
    session.output.result(found, table(("", "used", "limit"), rows, ""), Text(), table(columns, past, "No use yet."))
