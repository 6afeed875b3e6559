"""What a doctor's check found, and what every check shares. Knows no check."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.settings import Settings

State = Literal["ok", "warning", "wrong"]
_BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; ``mend`` says what to do where it is not ok."""

    name: str
    state: State
    detail: str
    mend: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def reading(path: Path) -> sqlite3.Connection:
    """A database opened for reading only, also beside a running service. Raises sqlite3.Error."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    connection.row_factory = sqlite3.Row
    return connection


def nearest(path: Path) -> Path:
    """The path, or the first folder above it that is there."""
    found = path.absolute()
    while not found.exists():
        found = found.parent
    return found
