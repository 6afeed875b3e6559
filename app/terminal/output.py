"""What a command shows: for people through rich, for programs as one line of JSON; progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 160


class Output:
    """Standard output and standard error of one command.

    Attributes:
        as_json: nothing but JSON goes to standard output.
        console: standard output, for people.
        notes: standard error.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = console()
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, data: BaseModel | Mapping[str, Any], *shown: RenderableType) -> None:
        """The outcome: ``data`` as one line of JSON, or what is ``shown`` to people."""
        if self.as_json:
            typer.echo(json_line(data))
            return
        for each in shown:
            self.console.print(each)

    def note(self, text: str, style: str = "dim") -> None:
        """Something beside the outcome, such as what the command is waiting for."""
        self.notes.print(Text(text, style))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on standard error; none where it is no terminal."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.notes, disable=not self.notes.is_terminal, transient=True) as progress:
            yield progress


def console() -> Console:
    """Standard output for people: in colour and as wide as the terminal, or plain and wide for a pipe."""
    shown = Console(highlight=False)
    return shown if shown.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def json_line(data: BaseModel | Mapping[str, Any]) -> str:
    """One line of JSON."""
    plain = data.model_dump(mode="json") if isinstance(data, BaseModel) else dict(data)
    return json.dumps(plain, ensure_ascii=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> RenderableType:
    """Rows under headings; ``empty`` where there are none. Nothing in a cell is read as markup."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return shown if count else Text(empty, "dim")


def size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
