"""Every measurement's quick form, one after another: `python -m benchmarks [NAME …]`, or `make bench`.

Each runs in a process of its own, with a time limit; one that fails, or whose data is absent, does not end the others.
What each printed last is kept as JSON with date, commit and machine, beside charts and `report.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import DATA
from benchmarks.suite import (
    CATALOGUE,
    ROOT,
    Run,
    print_table,
    publish,
    read_runs,
    run_benchmark,
    without_data,
    write_report,
)

_RESULTS = ROOT / "benchmarks" / "results"
_INTERRUPTED = 130


def main() -> None:
    """Run what the command line asks for; the last line is one JSON object. Status 1 if one failed or none ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the question sets (default: ../shared/data)")
    parser.add_argument("--output", type=Path, help="folder of what is kept (default: benchmarks/results/TIME)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each one (default: 600)")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="measure nothing: table, charts and report anew "
                        "from what a folder keeps")  # fmt: skip
    parser.add_argument("--publish", action="store_true", help="take the runs into the documentation too: JSON, "
                        "charts, and the tables of both READMEs and of docs/benchmarks.md")  # fmt: skip
    given = parser.parse_args()
    if given.list:
        for name, benchmark in CATALOGUE.items():
            print(f"{name:16}{benchmark.about}")
        return
    if unknown := [name for name in given.names if name not in CATALOGUE]:
        parser.error(f"no such measurement: {', '.join(unknown)}. There are: {', '.join(CATALOGUE)}")
    if not given.limit > 0:
        parser.error("--limit must be above 0")
    if given.report is not None:
        try:
            runs = read_runs(given.report)
        except ValueError as error:
            parser.error(str(error))
        if not runs:
            parser.error(f"no run is kept in {given.report}")
        if given.publish:
            publish(runs)
        sys.exit(_tell(runs, given.report))
    folder = (given.output or _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}").absolute()
    if folder.is_dir() and any(folder.glob("*.json")):
        parser.error(f"{folder} keeps runs already; give another --output")
    folder.mkdir(parents=True, exist_ok=True)
    names = given.names or list(CATALOGUE)
    runs = _run_all(names, given.data.absolute(), folder, given.limit)
    if given.publish:
        publish(runs)
    status = _tell(runs, folder)
    sys.exit(status if len(runs) == len(names) else _INTERRUPTED)


def _run_all(names: Sequence[str], data: Path, folder: Path, limit_s: float) -> list[Run]:
    """Run one after another; when interrupted, those until then."""
    runs: list[Run] = []
    try:
        for number, name in enumerate(names, 1):
            benchmark = CATALOGUE[name]
            print(f"{number} of {len(names)}  {name}: {benchmark.about} …", file=sys.stderr, flush=True)
            if missing := [file for file in benchmark.needs if not (data / file).is_file()]:
                reason = f"no {' and no '.join(missing)} in {os.path.relpath(data)}; say where with --data"
                runs.append(without_data(name, reason, folder))
            else:
                runs.append(run_benchmark(name, benchmark.arguments, folder, data=data, limit_s=limit_s))
            last = runs[-1]
            print(f"    {last.state} in {last.seconds:g} s{f': {last.reason}' if last.reason else ''}",
                  file=sys.stderr, flush=True)  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted: the others are left out", file=sys.stderr, flush=True)
    return runs


def _tell(runs: Sequence[Run], folder: Path) -> int:
    """Print and write what came of the runs; the exit status."""
    write_report(runs, folder)
    print_table(runs)
    print(f"kept, with charts and report.md: {os.path.relpath(folder)}")
    print(json.dumps({run.name: run.state for run in runs}))
    states = {run.state for run in runs}
    return int("measured" not in states or bool(states & {"failed", "out of time"}))


if __name__ == "__main__":
    main()
