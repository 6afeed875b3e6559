"""Training from the terminal: its progress on standard error. The training itself lives in `adapters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.errors import InvalidTrainingData
from adapters.squad import Question, read_squad
from adapters.training import (
    HELD_OUT_QUESTIONS,
    NEGATIVES,
    TRAINING_QUESTIONS,
    Objective,
    RankingFigures,
    Trained,
    TrainingProgress,
    check_examples,
    config_of,
    parse_examples,
    train,
    train_reader,
    train_reranker,
)
from app.ranking_data import ranking_data
from app.settings import BUILTIN
from ingest import make_embedder

Report = Callable[[TrainingProgress], None]
T = TypeVar("T")


def run_reader_training(data: list[Path], output: Path) -> float:
    """`lorebase train reader`: below which confidence the reader, now in a folder, abstains. Raises AdapterError."""
    return _shown(lambda _, report: train_reader(_questions(data), output, report=report).min_confidence)


def run_reranker_training(data: list[Path], output: Path) -> RankingFigures:
    """`lorebase train reranker`: what the reranker, now in a folder, does for held-out questions.

    Raises:
        AdapterError, IngestError: it cannot be trained from this.
    """

    def run(bar: Progress, report: Report) -> RankingFigures:
        mining = bar.add_task("mining", total=None)

        def mined(what: str, done: int, total: int) -> None:
            bar.update(mining, completed=done, total=total, description=f"mining: {what}")

        found = ranking_data(
            data,
            output / "mining",
            make_embedder(),
            questions=TRAINING_QUESTIONS,
            held_out=HELD_OUT_QUESTIONS,
            negatives=NEGATIVES,
            report=mined,
        )
        bar.remove_task(mining)
        return train_reranker(found.examples, found.held_out, output, report=report)

    return _shown(run)


def run_adapter_training(
    data: list[Path], output: Path, model: str, dtype: str, objective: Objective, given: Mapping[str, Any]
) -> Trained:
    """`lorebase train adapter`: what the run made.

    Args:
        given: hyper-parameters that were set; the others follow from the method.

    Raises:
        AdapterError: it cannot be trained from this.
    """
    generates = model != BUILTIN

    def run(bar: Progress, report: Report) -> Trained:
        config = config_of(given, generates=generates)
        found = [example for path in data for example in parse_examples(str(path), _content(path))]
        examples, warnings = check_examples(found, objective, quotes=not generates, english=not generates)
        if not all(example.passages for example in examples):
            raise InvalidTrainingData(
                "Some examples bring no passage. Passages are retrieved where the documents are: by a running service, "
                "with `lorebase train job`."
            )
        for warning in warnings:
            bar.console.print(warning, style="yellow")
        trained, _ = train(examples, output, config, model=model, dtype=dtype, objective=objective, report=report)
        return trained

    return _shown(run)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidTrainingData(f"{path}: {error.strerror or error}") from error


def _questions(data: list[Path]) -> list[Question]:
    return [question for path in data for question in read_squad(path)]


def _shown(train: Callable[[Progress, Report], T]) -> T:
    """What a training returns; how far it is, is shown as a bar, or in lines where there is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("training", total=None)

            def report(progress: TrainingProgress) -> None:
                description = f"loss {progress.loss:.3f}, {progress.examples_per_second:.1f} examples/s"
                bar.update(task, completed=progress.step, total=progress.steps, description=description)
                if not console.is_terminal:
                    console.print(f"step {progress.step} of {progress.steps}: {description}, "
                                  f"{progress.eta_seconds / 60:.0f} min left")  # fmt: skip

            return train(bar, report)
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from the last checkpoint.")
        raise
