"""`lorebase bench`: the measurements of a checkout, from the terminal."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

from app.terminal.failures import Unusable, told

group = typer.Typer(add_completion=False)


@group.command(context_settings={"ignore_unknown_options": True})
def bench(
    name: Annotated[str | None, typer.Argument(help="A measurement; without one, all are listed.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Its own options, such as --quick.")] = None,
) -> None:
    """Measure this machine, with what lies in `benchmarks/` of a checkout. The last line is one JSON object."""
    with told(as_json=False):
        if importlib.util.find_spec("benchmarks") is None:
            raise Unusable("The measurements come with a checkout of the code, not with the installed package.")
        if name is not None and importlib.util.find_spec(f"benchmarks.{name}") is None:
            raise Unusable(f"There is no measurement {name!r}; `lorebase bench` lists them.")
    module = "benchmarks" if name is None else f"benchmarks.{name}"
    command = [sys.executable, "-m", module, *(arguments or ())]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - a module of this project
