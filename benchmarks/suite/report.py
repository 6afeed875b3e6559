"""What came of the suite: one table of the named figures beside what is wanted, charts, and a report in Markdown.

Knows the catalogue and the kept runs; starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.suite.catalogue import CATALOGUE, Figure, value_at
from benchmarks.suite.charts import bar_chart, wanted_chart
from benchmarks.suite.running import Run

COLUMNS = ("benchmark", "figure", "measured", "wanted", "kept")
WANTED_CHART = "wanted.svg"


def figure_rows(runs: Sequence[Run]) -> list[tuple[str, str, str, str, str]]:
    """A row under `COLUMNS` for each named figure; of a run that has none, one that says what became of it."""
    rows: list[tuple[str, str, str, str, str]] = []
    for run in runs:
        benchmark = CATALOGUE[run.name]
        if run.state != "measured":
            rows.append((run.name, f"{run.state}: {run.reason}", "", "", ""))
        if run.figures is None:
            continue
        for figure in benchmark.figures:
            value = value_at(run.figures, figure.path)
            rows.append((run.name, figure.title, *told(figure, value)))
        if not benchmark.figures:
            rows.append((run.name, f"{benchmark.about}: see {run.name}.out.txt", "", "", ""))
    return rows


def told(figure: Figure, value: float | None) -> tuple[str, str, str]:
    """What was measured and what is wanted, with their unit, and whether it is kept."""
    wanted = "" if figure.wanted is None else f"{'≤' if figure.most else '≥'} {figure.wanted:g} {figure.unit}".rstrip()
    if value is None:
        return "not measured", wanted, ""
    kept = figure.kept(value)
    return f"{value:.4g} {figure.unit}".rstrip(), wanted, "" if kept is None else "yes" if kept else "no"


def print_table(runs: Sequence[Run]) -> None:
    """The table, on the terminal."""
    table = Table(title="Every measurement's quick form", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("measured", "wanted") else "left")
    for row in figure_rows(runs):
        table.add_row(*map(escape, row))
    Console().print(table)


def markdown_table(runs: Sequence[Run]) -> str:
    """The table in Markdown."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *figure_rows(runs)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def charts(runs: Sequence[Run]) -> dict[str, str]:
    """By file name the charts, as SVG, that these runs have figures for."""
    found = {}
    measured = [
        (figure, value)
        for run in runs
        for figure in CATALOGUE[run.name].figures
        if (value := value_at(run.figures, figure.path)) is not None and figure.wanted
    ]
    if measured:
        found[WANTED_CHART] = wanted_chart("Figures beside what is wanted (dashed)", measured)
    for run in runs:
        bars = CATALOGUE[run.name].bars
        if bars is None:
            continue
        values = {label: value_at(run.figures, path) for label, path in bars.paths.items()}
        there = {label: value for label, value in values.items() if value is not None}
        if there:
            found[f"{run.name}.svg"] = bar_chart(bars.title, bars.unit, there)
    return found


def write_report(runs: Sequence[Run], folder: Path) -> None:
    """Write the charts and ``report.md`` into a folder."""
    drawn = charts(runs)
    for name, svg in drawn.items():
        (folder / name).write_text(svg)
    parts = ["# Measurements", machines(runs), markdown_table(runs)]
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in drawn]
    parts += ["## Commands", "\n".join(_command(run) for run in runs)]
    (folder / "report.md").write_text("\n\n".join(part.rstrip("\n") for part in parts) + "\n")


def machines(runs: Sequence[Run], *, chinese: bool = False) -> str:
    """When, of what and where; the load says how busy the machine was with other work too."""
    if not runs:
        return "Nothing was run."
    first, last = runs[0], runs[-1]
    loads = [run.machine["load"] for run in runs]
    commits = ", ".join(dict.fromkeys(run.commit or "unknown" for run in runs))
    machine = first.machine
    if chinese:
        return (
            f"{first.began} 至 {last.began}；提交 {commits}；{machine['cpus']} 核（{machine['processor']}），"
            f"{machine['system']}，Python {machine['python']}；每次测量前的负载 {min(loads)} 至 {max(loads)}。"
        )
    return (
        f"{first.began} to {last.began}; commit {commits}; {machine['cpus']} processors ({machine['processor']}), "
        f"{machine['system']}, Python {machine['python']}; load before each run {min(loads)} to {max(loads)}."
    )


def _command(run: Run) -> str:
    return f"- {run.name}: `{run.command}`, {run.seconds:g} s" if run.command else f"- {run.name}: not run"
