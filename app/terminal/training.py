"""`lorebase train`: a job in a service, followed here; or here, without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from adapters.training import METHODS, OBJECTIVES, Targets
from app.settings import Settings
from app.terminal.failures import Unusable, told
from app.terminal.jobs import followed
from app.terminal.output import Output
from app.terminal.session import AsJson, Session, on_service
from app.terminal.tuning import tuned
from app.training_schemas import FeedbackSource

group = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train adapters, and the embedded reader and reranker themselves."
)
Choice = TypeVar("Choice", bound=str)
_TARGETS = get_args(Targets)
DataFiles = Annotated[list[Path], typer.Option("--data", help="A question set in SQuAD format; may be repeated.")]
OutputFolder = Annotated[Path, typer.Option("--output", help="Folder for the adapter; a run left there is resumed.")]
Objective = Annotated[str, typer.Option(help="sft, dpo or kto.")]


@group.command()
@on_service()
@tuned
def job(
    session: Session,
    adapter: Annotated[str, typer.Argument(help="The adapter that gets a new version.")],
    file: Annotated[Path | None, typer.Option(help="A set in JSON Lines or SQuAD format, which is uploaded.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Or the id or name of a set the service has.")] = None,
    feedback: Annotated[bool, typer.Option("--feedback", help="Or what people said of the service's answers.")] = False,
    objective: Objective = "sft",
    top_k: Annotated[
        int | None,
        typer.Option(min=1, max=20, help="Passages to retrieve for an example that brings none; 5 unless given."),
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Let the new version answer at once.")] = False,
    *,
    tuning: Mapping[str, Any],
) -> None:
    """Train a new version of an adapter in the service, and follow the job. Ending the command leaves it running."""
    if [file is not None, dataset is not None, feedback].count(True) != 1:
        raise Unusable("Give one of --file, --dataset and --feedback.")
    wanted: str | FeedbackSource = FeedbackSource(feedback=True)
    if not feedback:
        wanted = session.client.upload_dataset(file).id if file is not None else str(dataset)
    begun = session.client.train(adapter, wanted, objective=objective, top_k=top_k, **tuning)
    for warning in begun.warnings:
        session.output.note(warning, "yellow")
    ended = followed(session, begun)
    made = ended.result or {}
    name, version = str(made["adapter"]), int(made["version"])
    if promote:
        session.client.promote(name, version)
    shown = [f"{name}@{version} is {'active' if promote else 'registered'} (loss {ended.loss})."]
    if not promote:
        shown += [
            f"lorebase adapters gate {name} {version} --questions FILE.json   lets it answer if it is better",
            f"lorebase adapters promote {name} {version}   lets it answer",
        ]
    session.output.result(ended, *shown)


@group.command("reader")
def train_reader(data: DataFiles, output: OutputFolder, as_json: AsJson = False) -> None:
    """Train the embedded reader: a LoRA adapter and QA head on the raw encoder, then calibrate it."""
    from app.training import run_reader_training

    with told(as_json=as_json):
        least = run_reader_training(data, output)
        Output(as_json=as_json).result(
            {"output": str(output), "min_confidence": least},
            f"The reader is in {output}; it abstains below a confidence of {least:.2f}.",
        )


@group.command("reranker")
def train_reranker(data: DataFiles, output: OutputFolder, as_json: AsJson = False) -> None:
    """Train the embedded reranker on what the service's own search finds for the questions."""
    from app.training import run_reranker_training

    with told(as_json=as_json):
        figures = run_reranker_training(data, output)
        Output(as_json=as_json).result(
            {"output": str(output), **asdict(figures)},
            f"The reranker is in {output}: mean reciprocal rank of {figures.questions} held-out questions "
            f"{figures.mrr_retrieved:.3f} as retrieved, {figures.mrr_reranked:.3f} reranked.",
        )


@group.command("adapter")
@tuned
def train_adapter(
    data: Annotated[
        list[Path], typer.Option("--data", help="A set in SQuAD format or JSON Lines, with passages; may be repeated.")
    ],
    output: OutputFolder,
    objective: Objective = "sft",
    as_json: AsJson = False,
    *,
    tuning: Mapping[str, Any],
) -> None:
    """Train an adapter here, without a service, on the model of LOREBASE_MODEL."""
    from app.training import run_adapter_training

    with told(as_json=as_json):
        settings = Settings()
        _one_of(METHODS, tuning.get("method", METHODS[0]), "--method")
        _one_of(_TARGETS, tuning.get("targets", _TARGETS[0]), "--targets")
        wanted = _one_of(OBJECTIVES, objective, "--objective")
        trained = run_adapter_training(data, output, settings.model, settings.dtype, wanted, tuning)
        Output(as_json=as_json).result(
            {"output": str(output), "steps": trained.steps, "trainable": trained.trainable, "loss": trained.loss,
             "seconds": round(trained.seconds, 1)},
            f"The adapter is in {output} (loss {trained.loss:.3f}): `lorebase adapters upload NAME {output}`.",
        )  # fmt: skip


def _one_of(allowed: Sequence[Choice], given: str, option: str) -> Choice:
    for each in allowed:
        if each == given:
            return each
    raise Unusable(f"{option}: {given!r} is not one of {', '.join(map(str, allowed))}.")
