"""`lorebase bench`: the measurements of a checkout, from the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.terminal.failures import Unusable, told

_CHECKOUT = Path(__file__).parents[2]
# As `python -m` does it, for a folder that need not be the present one.
_RUN = (
    "import runpy, sys; checkout, module, *given = sys.argv[1:]; sys.path.insert(0, checkout); "
    "sys.argv[1:] = given; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)

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
        folder = _CHECKOUT / "benchmarks"
        if not (folder / "__main__.py").is_file():
            raise Unusable("The measurements come with a checkout of the code, not with the installed package.")
        given = [*([] if name is None else [name]), *(arguments or ())]
        module = "benchmarks"
        if given and not given[0].startswith("-"):
            asked = given.pop(0)
            module = f"benchmarks.{asked}"
            if not asked.isidentifier() or not (folder / f"{asked}.py").is_file():
                raise Unusable(f"There is no measurement {name!r}; `lorebase bench --list` says which there are.")
    command = [sys.executable, "-c", _RUN, str(_CHECKOUT), module, *given]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - a module of this project
