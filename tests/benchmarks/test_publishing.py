"""The figures that the documentation shows are those of the runs that are kept beside it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.suite import CATALOGUE, ROOT, parts, publish, read_runs, with_part
from benchmarks.suite.publishing import HIGHLIGHTS, KEPT

PAGES = ("README.md", "README.zh.md", "docs/benchmarks.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_documentation_are_made_of_the_kept_runs(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text == with_part(text, parts(read_runs(ROOT / KEPT))[page])


def test_every_highlight_is_a_figure_of_the_catalogue() -> None:
    for each in HIGHLIGHTS:
        assert each.path in [figure.path for figure in CATALOGUE[each.benchmark].figures]


def test_a_new_run_takes_the_place_of_the_kept_one_everywhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / KEPT, tmp_path / KEPT)
    for page in PAGES:
        shutil.copy(ROOT / page, tmp_path / page)
    [run] = [run for run in read_runs(ROOT / KEPT) if run.name == "ingest"]
    publish([replace(run, figures={**(run.figures or {}), "ratio_to_encode": 0.1234})], tmp_path)
    for page in PAGES:
        assert "| 0.1234 | ≥ 0.9 |" in (tmp_path / page).read_text()
    assert "0.1234" in (tmp_path / KEPT / "ingest.json").read_text()
    with pytest.raises(ValueError, match="suite: begin"):
        with_part("no marks", "x")
