"""The server is killed while it works, and nothing that was acknowledged is lost."""

from __future__ import annotations

import pytest

from benchmarks.crash import run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def test_kill_9_during_ingest_replace_and_delete_loses_nothing() -> None:
    findings = run(rounds=3, seed=7)
    assert findings.reasons == []
