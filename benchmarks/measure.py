"""What every measurement shares: its arguments, its data, interleaved timing, and how it reports.

Knows clocks, medians and terminals; knows nothing of what is measured. A measurement sets two or more ways to do the
same work side by side in one run, turn by turn, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Arguments:
    """A measurement's command line."""

    data: Path
    quick: bool
    repeats: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Several timings of one thing: the median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.4g}  ({self.low:.4g} to {self.high:.4g})"


def parse_arguments(about: str, *, default_set: str, repeats: int, quick_repeats: int) -> Arguments:
    """Read the command line; ends the process with a clear message where the data is absent.

    Args:
        default_set: a file in ``--data``, or ``--data`` is such a file itself.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of question sets (reads {default_set}), or a "
                        "SQuAD-format file (default: ../shared/data)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="less than a minute, with more noise")
    parser.add_argument("--repeats", type=int, help=f"turns (default: {repeats}, quick: {quick_repeats})")
    given = parser.parse_args()
    file = given.data / default_set if given.data.is_dir() else given.data
    if not file.is_file():
        parser.error(f"no such file: {os.path.relpath(file)}. Give a SQuAD-format file, or its folder, with --data.")
    turns = given.repeats or (quick_repeats if given.quick else repeats)
    if turns < 1:
        parser.error("--repeats must be 1 or more")
    return Arguments(file, given.quick, turns)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(ways: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Measure several ways turn by turn, each turn in the other order, so that none is always first.

    Args:
        ways: by name, a function that does the work once and returns the figure.
    """
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            figures[name].append(ways[name]())
    return figures


def processor_time(work: Callable[[], object]) -> float:
    """Processor seconds of the whole process that ``work`` takes: for a machine that is busy with other work, where a
    clock tells mostly of that. Threads that only wait for one another are counted too, so measure with one."""
    began = time.process_time()
    work()
    return time.process_time() - began


def report(title: str, rows: Sequence[tuple[str, str, str]], bound: str, result: Mapping[str, Any]) -> None:
    """Print a table, the bound to keep, and the result as the last line: one JSON object."""
    table = Table(title=title, caption=bound, title_justify="left", caption_justify="left")
    table.add_column("part")
    table.add_column("median (quartiles)", justify="right")
    table.add_column("unit")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    print(json.dumps({**result, **machine}))
