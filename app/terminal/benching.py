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
    name: Annotated[str | None, typer.Argument(help="A measurement; without one, all in their quick form.")] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Its own options, such as --quick, or those of all: --list, --output.")
    ] = None,
) -> None:
    """Measure this machine, with what lies in `benchmarks/` of a checkout. The last line is one JSON object."""
    with told(as_json=False):
        if importlib.util.find_spec("benchmarks") is None:
            raise Unusable("The measurements come with a checkout of the code, not with the installed package.")
        given = [*([] if name is None else [name]), *(arguments or ())]
        module = "benchmarks"
        if given and not given[0].startswith("-"):
            module = f"benchmarks.{given.pop(0)}"
            if importlib.util.find_spec(module) is None:
                raise Unusable(f"There is no measurement {name!r}; `lorebase bench --list` says which there are.")
    command = [sys.executable, "-m", module, *given]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - a module of this project
