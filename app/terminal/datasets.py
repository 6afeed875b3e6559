"""`lorebase dataset`: training sets of a tenant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.terminal.adapters import write_new
from app.terminal.jobs import followed
from app.terminal.output import size, table
from app.terminal.session import Session, on_service

group = typer.Typer(no_args_is_help=True, add_completion=False, help="Training sets of a tenant.")
SetName = Annotated[str, typer.Argument(help="The set's id or name.")]


@group.command("list")
@on_service()
def list_datasets(session: Session, limit: Annotated[int, typer.Option(min=1, max=1000)] = 100) -> None:
    """The training sets, newest first."""
    page = session.client.datasets(limit=limit)
    rows = [(d.id, d.name, d.source, d.examples, d.with_passages, size(d.bytes)) for d in page.datasets]
    columns = ("id", "name", "from", "examples", "with passages", "size")
    session.output.result(page, table(columns, rows, "There are no training sets."))


@group.command()
@on_service()
def show(session: Session, dataset: SetName) -> None:
    """One training set's facts."""
    found = session.client.dataset(dataset)
    facts = [(name, value) for name, value in found.model_dump(mode="json").items() if value not in (None, [])]
    session.output.result(found, table(("field", "value"), facts, ""))


@group.command()
@on_service(creates=True)
def upload(
    session: Session,
    file: Annotated[Path, typer.Argument(help="JSON Lines, or SQuAD JSON.")],
    name: Annotated[str | None, typer.Option(help="A name for it.")] = None,
) -> None:
    """Store a training set, checked line by line."""
    made = session.client.upload_dataset(file, name=name)
    for warning in made.warnings:
        session.output.note(warning, "yellow")
    session.output.result(made, f"{made.examples} examples in {made.name or made.id}.")


@group.command()
@on_service()
def build(
    session: Session,
    name: Annotated[str | None, typer.Option(help="A name for the set; the other one is NAME-held-out.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Examples at most.")] = 500,
    held_out: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the documents held out.")] = 0.2,
) -> None:
    """Make a training set from the documents: questions that search and model answer again."""
    ended = followed(session, session.client.build_dataset(name=name, limit=limit, held_out=held_out))
    made = ended.result or {}
    session.output.result(
        ended,
        f"{made['examples']} examples in {made['dataset']}, {made['held_out_examples']} held out in "
        f"{made['held_out']}, of {made['questions_tried']} questions tried.",
    )


@group.command()
@on_service()
def export(
    session: Session,
    dataset: SetName,
    target: Annotated[Path | None, typer.Option("--output", help="The file to write; NAME.jsonl by default.")] = None,
) -> None:
    """Write a set's examples to a file, as JSON Lines."""
    found = session.client.dataset(dataset)
    written = write_new(target or Path(f"{found.name or found.id}.jsonl"), session.client.dataset_examples(dataset))
    told = {"dataset": found.id, "file": str(written), "examples": found.examples}
    session.output.result(told, f"{found.examples} examples are in {written}.")


@group.command()
@on_service()
def delete(session: Session, dataset: SetName) -> None:
    """Forget a training set. Versions trained on it keep its hash."""
    session.client.delete_dataset(dataset)
    session.output.result({"deleted": dataset}, f"{dataset} is deleted.")
