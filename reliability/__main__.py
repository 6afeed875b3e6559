"""`python -m reliability [ROW …]`: run the rows, longest forms, and print what came of them; status 1 if any failed."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback

from rich.console import Console
from rich.table import Table

from reliability.outcome import NotPossible, Outcome
from reliability.rows import ROWS


def main() -> None:
    """Run what the command line asks for. The last line printed is one JSON object, a key for each row."""
    parser = argparse.ArgumentParser(
        prog="python -m reliability",
        description="Faults and attacks against real server processes on this machine.",
        epilog="Rows: " + "; ".join(f"{name}: {row.about}" for name, row in ROWS.items()) + ".",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="the short form, as in the tests")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: 1)")
    given = parser.parse_args()
    unknown = sorted(set(given.rows) - set(ROWS))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}. There are: {', '.join(ROWS)}")
    outcomes: dict[str, Outcome] = {}
    for name in given.rows or ROWS:
        print(f"{name}: {ROWS[name].about} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            outcomes[name] = ROWS[name].run(seed=given.seed, full=not given.quick)
        except NotPossible as reason:
            print(f"{name} cannot be run here: {reason}", file=sys.stderr, flush=True)
            outcomes[name] = Outcome()
        except Exception as error:  # the other rows are run all the same
            traceback.print_exc()
            outcomes[name] = Outcome()
            outcomes[name].check(False, f"{name} ended by {error!r}")
        outcomes[name].figures["seconds"] = round(time.monotonic() - began, 1)
    _report(outcomes)
    sys.exit(1 if any(outcome.failed for outcome in outcomes.values()) else 0)


def _report(outcomes: dict[str, Outcome]) -> None:
    table = Table(title="Faults and attacks", title_justify="left")
    for column in ("row", "tried", "failed", "figures"):
        table.add_column(column)
    for name, outcome in outcomes.items():
        shown = ", ".join(f"{figure} {value}" for figure, value in outcome.figures.items())
        table.add_row(name, str(outcome.tried), str(outcome.failed), shown)
    Console().print(table)
    print(json.dumps({name: {"tried": o.tried, "failed": o.failed, **o.figures} for name, o in outcomes.items()}))


if __name__ == "__main__":
    main()
