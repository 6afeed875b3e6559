"""`lorebase dataset`: training sets of a tenant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.judging import Rule
from app.terminal.adapters import write_new
from app.terminal.failures import Unusable
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
def judge(
    session: Session,
    dataset: Annotated[str, typer.Argument(help="Id or name of the set with the questions.")],
    rule: Annotated[Rule | None, typer.Option(help="Prefer what the passages hold, or the shorter of it.")] = None,
    begins_with: Annotated[str | None, typer.Option(help="Prefer answers that begin with this.")] = None,
    standard: Annotated[str | None, typer.Option(help="Ask a model what is better by this standard, in words.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for the set of pairs.")] = None,
    adapter: Annotated[str, typer.Option(help="Whose answers are compared.")] = "base",
    samples: Annotated[int, typer.Option(min=2, max=16, help="Answers to a question.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.01, max=2, help="How freely they are drawn.")] = 1.0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Questions at most.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same pairs.")] = 0,
) -> None:
    """Answer a set's questions several times, let a judge prefer, and keep the pairs for dpo or kto.

    One of --rule, --begins-with and --standard says who judges.
    """
    given = {"rule": rule, "begins_with": begins_with, "standard": standard}
    judges = {kind: value for kind, value in given.items() if value is not None}
    if len(judges) != 1:
        raise Unusable("Give one of --rule, --begins-with and --standard: it says which answer is better.")
    drawn = {"samples": samples, "temperature": temperature, "limit": limit, "seed": seed}
    ended = followed(session, session.client.judge_answers(dataset, judges, name=name, adapter=adapter, **drawn))
    made = ended.result or {}
    told = f"{made['examples']} pairs in {made['dataset']}, of {made['questions_tried']} questions asked."
    if made["unjudged"]:
        told += f" {made['unjudged']} got no verdict: the judge failed on them."
    session.output.result(ended, told)


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
