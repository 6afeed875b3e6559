"""The rows of docs/reliability.md, in their short form."""

from __future__ import annotations

import inspect

import pytest

from app.local_server import LocalServer
from reliability.outcome import NotPossible
from reliability.rows import ROWS

pytestmark = pytest.mark.e2e
SEED = 7


@pytest.mark.parametrize("name", ROWS)
def test_both_forms_of_a_row_are_what_it_takes(name: str) -> None:
    row = ROWS[name]
    assert {*row.short, *row.long} <= {*inspect.signature(row.run_with).parameters}


@pytest.mark.parametrize("name", ROWS)
def test_every_fault_and_attack_is_withstood(name: str, server: LocalServer) -> None:
    try:
        outcome = ROWS[name].run(seed=SEED, full=False, server=server)
    except NotPossible as reason:
        pytest.skip(str(reason))
    assert outcome.failed == 0, "\n".join(outcome.reasons)
    assert outcome.tried > 0
