"""`lorebase bench`: one measurement, or all of a checkout."""

from __future__ import annotations

from benchmarks.suite import CATALOGUE
from tests.app.terminal.console import lorebase


def test_without_a_name_its_options_are_those_of_all_measurements() -> None:
    listed = lorebase("bench", "--list")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == list(CATALOGUE)


def test_one_that_is_not_there_is_refused_and_says_how_to_find_those_that_are() -> None:
    refused = lorebase("bench", "nonsense", "--quick")
    assert refused.code == 2
    assert "lorebase bench --list" in refused.error


def test_with_json_nothing_but_the_last_line_goes_to_standard_output() -> None:
    listed = lorebase("bench", "--json", "--list")
    assert len(listed.out.splitlines()) == 1
    assert [line.split()[0] for line in (listed.error + listed.out).splitlines()] == list(CATALOGUE)
