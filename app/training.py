"""Training from the terminal: progress as it goes, one line at the end. The training itself lives in `adapters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.errors import AdapterError, InvalidTrainingData
from adapters.squad import Question, read_squad
from adapters.training import (
    HELD_OUT_QUESTIONS,
    NEGATIVES,
    TRAINING_QUESTIONS,
    Objective,
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
from ingest import IngestError, make_embedder

Report = Callable[[TrainingProgress], None]


def run_reader_training(data: list[Path], output: Path) -> int:
    """`lorebase train reader`; the exit status."""

    def train(bar: Progress, report: Report) -> str:
        questions = _questions(data)
        calibration = train_reader(questions, output, report=report)
        return f"The reader is in {output}; it abstains below a confidence of {calibration.min_confidence:.2f}."

    return _run(train)


def run_reranker_training(data: list[Path], output: Path) -> int:
    """`lorebase train reranker`; the exit status."""

    def train(bar: Progress, report: Report) -> str:
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
        figures = train_reranker(found.examples, found.held_out, output, report=report)
        return (
            f"The reranker is in {output}: mean reciprocal rank of {figures.questions} held-out questions "
            f"{figures.mrr_retrieved:.3f} as retrieved, {figures.mrr_reranked:.3f} reranked."
        )

    return _run(train)


def run_adapter_training(
    data: list[Path], output: Path, model: str, dtype: str, objective: Objective, given: Mapping[str, Any]
) -> int:
    """`lorebase train adapter`; the exit status.

    Args:
        given: hyper-parameters that were set; the others follow from the method.
    """
    generates = model != BUILTIN

    def run(bar: Progress, report: Report) -> str:
        config = config_of({name: value for name, value in given.items() if value is not None}, generates=generates)
        found = [example for path in data for example in parse_examples(str(path), _content(path))]
        examples, warnings = check_examples(found, objective, quotes=not generates, english=not generates)
        if not all(example.passages for example in examples):
            raise InvalidTrainingData(
                "Some examples bring no passage. Passages are retrieved where the documents are: by a running service, "
                "with `lorebase train job`."
            )
        for warning in warnings:
            bar.console.print(warning, style="yellow")
        train(examples, output, config, model=model, dtype=dtype, objective=objective, report=report)
        return f"The adapter is in {output}; upload its two files to POST /adapters/NAME/versions."

    return _run(run)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidTrainingData(f"{path}: {error.strerror or error}") from error


def _questions(data: list[Path]) -> list[Question]:
    return [question for path in data for question in read_squad(path)]


def _run(train: Callable[[Progress, Report], str]) -> int:
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

            done = train(bar, report)
    except (AdapterError, IngestError) as error:
        console.print(str(error), style="red")
        return 2
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from the last checkpoint.")
        return 130
    Console().print(done)
    return 0
