"""How `make test` shares the tests out among processes (pytest-xdist); says nothing where they run in one.

The tests of a file stay together, for they share its models and servers, but for files whose tests each start what
they need. Tests with real processes come first: what is left for the end is short, and no process waits for another.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

EACH_ALONE = {
    "tests/app/test_postgres_over_http.py",
    "tests/app/test_restart.py",
    "tests/reliability/test_rows.py",
    "tests/test_documented_commands.py",
}


def unit_of(nodeid: str) -> str:
    """What a test is given out with: its file, or itself."""
    file = nodeid.split("::", 1)[0]
    return nodeid if file in EACH_ALONE else file


class ByFile(LoadScopeScheduling):
    """Gives a process that runs out of tests the next unit."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # the order is ours, see below
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
