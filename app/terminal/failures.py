"""What can go wrong in a command, told in one line, and the exit code it ends with. Never a stack trace."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer
from pydantic import ValidationError

from adapters.errors import AdapterError, InvalidTrainingData
from app.client import ServiceError
from app.settings import CommandSettings, Settings
from ingest import IngestError

_ASK_THE_DOCTOR = ": of a database; `lorebase doctor` names it, and says how to mend it."


class Exit(IntEnum):
    """The exit codes of every command, as docs/cli.md tells them."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command cannot do what it was asked; the message says why and what to do.

    Args:
        code: a stable word, as in problem JSON.
        exit: the command's exit code.
    """

    def __init__(self, detail: str, code: str = "failed", exit: Exit = Exit.FAILED, status: int = 0) -> None:
        super().__init__(detail)
        self.code, self.exit, self.status = code, exit, status


class Unusable(CommandFailed):
    """The command was given something it cannot use."""

    def __init__(self, detail: str, code: str = "unusable") -> None:
        super().__init__(detail, code, Exit.UNUSABLE)


@contextmanager
def told(*, as_json: bool) -> Iterator[None]:
    """Tell a failure of the block on standard error and end the command with its exit code."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise typer.Exit(Exit.INTERRUPTED) from error
    except (ServiceError, CommandFailed, AdapterError, IngestError, OSError, sqlite3.Error, ValidationError) as error:
        if isinstance(error, BrokenPipeError):  # whoever reads has seen enough
            raise
        failed = _as_failure(error)
        tell(failed, as_json=as_json)
        raise typer.Exit(failed.exit) from error


def tell(failed: CommandFailed, *, as_json: bool) -> None:
    """One line on standard error."""
    detail = " ".join(str(failed).split())
    if as_json:
        line = json.dumps(
            {"error": {"status": failed.status, "code": failed.code, "detail": detail}}, ensure_ascii=False
        )
    else:
        line = typer.style("error:", fg="red", bold=True) + f" {detail}"
        line += f" ({failed.status} {failed.code})" if failed.status else ""
    typer.echo(line, err=True, color=None if sys.stderr.isatty() else False)


def _as_failure(error: Exception) -> CommandFailed:
    match error:
        case CommandFailed():
            return error
        case ServiceError():
            exits = {0: Exit.UNREACHABLE, 401: Exit.REFUSED, 403: Exit.REFUSED, 404: Exit.NOT_FOUND}
            return CommandFailed(error.detail, error.code, exits.get(error.status, Exit.FAILED), error.status)
        case ValidationError():
            return Unusable(settings_problem(error), "invalid_settings")
        case InvalidTrainingData():
            return Unusable(str(error))
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Unusable(f"{where}{error.strerror or error}", "unreadable")
        case _:
            damaged = isinstance(error, sqlite3.Error)
            return CommandFailed(f"{error}{_ASK_THE_DOCTOR if damaged else ''}", "damaged" if damaged else "failed")


def settings_problem(error: ValidationError) -> str:
    """What is wrong with the settings, variable by variable; one that must have a form is told by what describes it."""
    fields = {**Settings.model_fields, **CommandSettings.model_fields}
    told = []
    for problem in error.errors(include_input=False):
        field = fields.get(str(next(iter(problem["loc"]), "")))
        said = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch" and field is not None:
            said = f"it does not have the form that it must have: {field.description}"
        told.append("".join(f"LOREBASE_{part}: ".upper() for part in problem["loc"]) + said)
    return "; ".join(told)
