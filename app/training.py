"""Training from the terminal: progress as it goes, one line at the end. The training itself lives in `adapters`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.errors import AdapterError
from adapters.squad import Question, read_squad
from adapters.training import TrainingProgress, train_domain_adapter, train_reader
from adapters.training.domain import DOMAIN_CONFIG


def run_reader_training(data: list[Path], output: Path) -> int:
    """`lorebase train reader`; the exit status."""

    def train(questions: list[Question], report: Callable[[TrainingProgress], None]) -> str:
        calibration = train_reader(questions, output, report=report)
        return f"The reader is in {output}; it abstains below a confidence of {calibration.min_confidence:.2f}."

    return _run(data, train)


def run_adapter_training(data: list[Path], output: Path, *, rank: int, epochs: float, seed: int) -> int:
    """`lorebase train adapter`; the exit status."""
    config = replace(DOMAIN_CONFIG, rank=rank, alpha=2 * rank, epochs=epochs, seed=seed)

    def train(questions: list[Question], report: Callable[[TrainingProgress], None]) -> str:
        train_domain_adapter(questions, output, config, report=report)
        return f"The adapter is in {output}; upload its two files to POST /adapters/NAME/versions."

    return _run(data, train)


def _run(data: list[Path], train: Callable[[list[Question], Callable[[TrainingProgress], None]], str]) -> int:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        questions = [question for path in data for question in read_squad(path)]
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(f"{len(questions)} questions", total=None)

            def report(progress: TrainingProgress) -> None:
                description = f"loss {progress.loss:.3f}, {progress.examples_per_second:.1f} examples/s"
                bar.update(task, completed=progress.step, total=progress.steps, description=description)

            done = train(questions, report)
    except AdapterError as error:
        console.print(str(error), style="red")
        return 2
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from the last checkpoint.")
        return 130
    Console().print(done)
    return 0
