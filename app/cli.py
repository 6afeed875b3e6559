"""The `lorebase` command. Each command is one function; what it does lives elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from adapters.training import METHODS, OBJECTIVES
from app.evaluate_command import evaluate_command
from app.settings import Settings, settings_table
from app.split_command import split_command
from app.train_command import dataset_build_command, train_job_command

cli = typer.Typer(name="lorebase", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
train_cli = typer.Typer(no_args_is_help=True, help="Train adapters, and the embedded reader and reranker themselves.")
cli.add_typer(train_cli, name="train")
dataset_cli = typer.Typer(no_args_is_help=True, help="Training sets of a running service.")
cli.add_typer(dataset_cli, name="dataset")
Choice = TypeVar("Choice", bound=str)
DataFiles = Annotated[list[Path], typer.Option("--data", help="A question set in SQuAD format; may be repeated.")]
OutputFolder = Annotated[Path, typer.Option("--output", help="Folder for the adapter; a run left there is resumed.")]


@cli.command()
def serve() -> None:
    """Run the service. Settings come from LOREBASE_… variables: see `lorebase settings`."""
    from app.server import serve as run

    raise typer.Exit(run(_settings()))


@cli.command()
def reindex(
    every: Annotated[bool, typer.Option("--every", help="Also tenants whose vectors are of this embedder.")] = False,
) -> None:
    """Embed all documents anew after LOREBASE_EMBEDDER changed. The service is stopped; interrupted, it goes on."""
    from app.reindex import reindex as run

    raise typer.Exit(run(_settings(), every=every))


@cli.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The archive to write, such as lorebase.tar.")],
    tenant: Annotated[str | None, typer.Option(help="Only the tenant of this id.")] = None,
) -> None:
    """Write everything the data folder holds, but no keys, to one archive; also while the service works."""
    from app.backup_command import run_backup

    raise typer.Exit(run_backup(_settings(), target, tenant))


@cli.command()
def restore(source: Annotated[Path, typer.Argument(help="An archive that `lorebase backup` wrote.")]) -> None:
    """Make the data folder LOREBASE_DATA, which must be new or empty, from a backup."""
    from app.backup_command import run_restore

    raise typer.Exit(run_restore(_settings(), source))


@cli.command()
def settings() -> None:
    """Every setting with its default and meaning, as a Markdown table."""
    typer.echo(settings_table())


cli.command("evaluate")(evaluate_command)
cli.command("split")(split_command)


@cli.command()
def demo() -> None:
    """Two tenants, three documents, two adapters: the service shown on the examples."""
    from app.demo import run_demo

    raise typer.Exit(run_demo())


@train_cli.command("reader")
def train_reader(data: DataFiles, output: OutputFolder) -> None:
    """Train the embedded reader: a LoRA adapter and QA head on the raw encoder, then calibrate it."""
    from app.training import run_reader_training

    raise typer.Exit(run_reader_training(data, output))


@train_cli.command("reranker")
def train_reranker(data: DataFiles, output: OutputFolder) -> None:
    """Train the embedded reranker on what the service's own search finds for the questions."""
    from app.training import run_reranker_training

    raise typer.Exit(run_reranker_training(data, output))


@train_cli.command("adapter")
def train_adapter(
    data: Annotated[
        list[Path], typer.Option("--data", help="A set in SQuAD format or JSON Lines, with passages; may be repeated.")
    ],
    output: OutputFolder,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "lora",
    objective: Annotated[str, typer.Option(help="sft, dpo or kto.")] = "sft",
    rank: Annotated[int | None, typer.Option(min=1, max=256, help="Rank of the LoRA factors.")] = None,
    targets: Annotated[str | None, typer.Option(help="Layers to adapt: qv, attention or all.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0.01, help="Passes over the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=256)] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
) -> None:
    """Train an adapter here, without a service, on the model of LOREBASE_MODEL."""
    from app.training import run_adapter_training

    settings = _settings()
    given = {
        "method": _one_of(METHODS, method, "--method"),
        "rank": rank,
        "targets": None if targets is None else _one_of(("qv", "attention", "all"), targets, "--targets"),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "seed": seed,
    }
    wanted = _one_of(OBJECTIVES, objective, "--objective")
    raise typer.Exit(run_adapter_training(data, output, settings.model, settings.dtype, wanted, given))


train_cli.command("job")(train_job_command)
dataset_cli.command("build")(dataset_build_command)


def _one_of(allowed: Sequence[Choice], given: str, option: str) -> Choice:
    for each in allowed:
        if each == given:
            return each
    raise typer.BadParameter(f"{given!r} is not one of {', '.join(map(str, allowed))}.", param_hint=option)


def _settings() -> Settings:
    """The settings of the environment; ends the process where they are wrong."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            name = "".join(f"LOREBASE_{part}: ".upper() for part in problem["loc"])
            typer.echo(name + problem["msg"].removeprefix("Value error, "), err=True)
        raise typer.Exit(2) from error


def main() -> None:
    """Entry point of the console script."""
    cli()


if __name__ == "__main__":
    main()
