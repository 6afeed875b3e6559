"""How the tests are shared out: what is given out test by test has nothing that its file shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distribution import EACH_ALONE, unit_of

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("file", sorted(EACH_ALONE))
def test_a_file_whose_tests_are_given_out_singly_shares_nothing_between_them(file: str) -> None:
    assert 'scope="module"' not in (ROOT / file).read_text()
    assert unit_of(f"{file}::test_it[a::b]") != unit_of(f"{file}::test_it[c]")


def test_the_tests_of_any_other_file_stay_together() -> None:
    file = "tests/adapters/test_reader.py"
    assert unit_of(f"{file}::TestContract::test_it") == unit_of(f"{file}::test_it[a::b]") == file
