"""`lorebase bench`: the measurements of a checkout, from the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.terminal.failures import Unusable, told
from app.terminal.session import AsJson

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
    as_json: AsJson = False,
) -> None:
    """Measure this machine, with what lies in `benchmarks/` of a checkout. The last line is one JSON object.

    With --json only that line goes to standard output, and the rest to standard error.
    """
    with told(as_json=as_json):
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
    if not as_json:
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - a module of this project
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603 - the same
        for line in running.stdout or ():
            if last:
                typer.echo(last, err=True, nl=False)
            last = line
    typer.echo(last, nl=False)
    raise typer.Exit(running.returncode)
