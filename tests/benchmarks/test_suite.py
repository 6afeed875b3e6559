"""The suite goes on when a measurement fails, keeps what each printed, and shows it beside what is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.suite import CATALOGUE, ROOT, Run, charts, figure_rows, markdown_table, read_runs, run_benchmark

POOL = Run(
    "pool", "measured", None, "python -m benchmarks.pool --quick", "2026-01-02T03:04:05+00:00", 12.0, "abc",
    {"cpus": 2, "processor": "x", "load": 1.5, "python": "3.11", "system": "Linux"},
    {"zipf1000_vs_32": 0.95, "load_vs_read": 2.5, "bytes_vs_file": 0.98},
)  # fmt: skip


def suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def kept(folder: Path, runs: Sequence[Run]) -> None:
    for run in runs:
        (folder / f"{run.name}.json").write_text(json.dumps(
            {name: getattr(run, name) for name in Run.__dataclass_fields__}))  # fmt: skip


def test_every_module_that_is_run_as_a_measurement_is_in_the_catalogue() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main(" in path.read_text()}
    modules |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert modules - {"__main__"} == set(CATALOGUE)


def test_a_measurement_that_fails_or_has_no_data_does_not_end_the_suite(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "kept"
    data.mkdir()
    (data / "squad-v1.1-dev36.json").write_text("no JSON")
    done = suite("splitting", "reader_methods", "--data", str(data), "--output", str(output))
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1]) == {"splitting": "failed", "reader_methods": "no data"}
    by_name = {run.name: run for run in read_runs(output)}
    assert "JSONDecodeError" in (by_name["splitting"].reason or "")
    assert "no tatqa-finance-train.json" in (by_name["reader_methods"].reason or "")
    assert "| splitting | failed: " in (output / "report.md").read_text()


def test_a_measurement_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    run = run_benchmark("methods", ["--quick", str(tmp_path)], tmp_path, data=tmp_path, limit_s=0.3)
    assert (run.state, run.reason, run.figures) == ("out of time", "ended after 0.3 s", None)
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(tmp_path).encode() in each for each in running)


def test_what_a_measurement_printed_last_is_kept_with_date_and_machine(tmp_path: Path) -> None:
    run = run_benchmark("bodies", [str(tmp_path)], tmp_path, data=tmp_path, limit_s=60)  # an empty folder
    assert (run.state, run.figures) == ("failed", None)
    assert "no file to ingest" in (run.reason or "")
    assert run.machine["cpus"] >= 1
    assert read_runs(tmp_path) == [run]
    assert (tmp_path / "bodies.err.txt").read_text().startswith("usage: ")


def test_the_table_says_what_was_wanted_and_whether_it_was_kept() -> None:
    rows = figure_rows([POOL, replace(POOL, name="swaps", state="out of time", reason="ended after 9 s", figures=None)])
    assert [row[2:] for row in rows] == [
        ("0.95", "≥ 0.9", "yes"), ("2.5 ×", "≤ 2 ×", "no"), ("0.98 ×", "≤ 1.2 ×", "yes"), ("", "", "")
    ]  # fmt: skip
    assert rows[-1][:2] == ("swaps", "out of time: ended after 9 s")


def test_a_figure_that_was_not_printed_is_not_measured_rather_than_nought() -> None:
    assert figure_rows([replace(POOL, figures={"bytes_vs_file": 1.0})])[0][2:] == ("not measured", "≥ 0.9", "")


def test_the_charts_show_the_figures_and_mark_those_that_miss() -> None:
    ask = replace(POOL, name="ask", figures={"http_overhead_ms_p50": -1.5, "search_ms_p50": 0.1, "http_ms_p50": 60.0})
    drawn = charts([POOL, ask])
    assert set(drawn) == {"wanted.svg", "ask.svg"}
    assert "2.5 (≤ 2 ×)" in texts(drawn["wanted.svg"])
    assert "60 ms" in texts(drawn["ask.svg"])
    assert drawn["wanted.svg"].count("#b3362c") == 1
    widths = [float(r.get("width", "")) for r in ElementTree.fromstring(drawn["wanted.svg"]).iter() if "rect" in r.tag]
    assert min(widths) == 0  # below zero there is no bar


def test_a_report_is_made_anew_from_what_a_folder_keeps(tmp_path: Path) -> None:
    kept(tmp_path, [POOL])
    done = suite("--report", str(tmp_path))
    assert done.returncode == 0
    assert markdown_table([POOL]) in (tmp_path / "report.md").read_text()
    assert (tmp_path / "wanted.svg").is_file()


def test_the_table_and_charts_of_the_documentation_are_of_the_runs_kept_beside_them() -> None:
    folder = ROOT / "docs" / "images" / "benchmarks"
    runs = read_runs(folder)
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert runs
    assert markdown_table(runs) in page
    drawn = charts(runs)
    assert {path.name: path.read_text() for path in folder.glob("*.svg")} == drawn
    assert all(f"(images/benchmarks/{name})" in page for name in drawn)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "no such measurement: nonsense"),
        (["--limit", "0"], "--limit must be above 0"),
        (["--report", "benchmarks/suite"], "no run is kept in benchmarks/suite"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: list[str], said: str) -> None:
    done = suite(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
