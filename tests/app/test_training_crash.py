"""The service is killed while it trains, and the training goes on: one version, none half done."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.app.test_restart import running
from tests.app.test_training_over_http import send_set, send_towns, town_lines, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]
OFTEN = {"LOREBASE_TRAINING_CHECKPOINT_SECONDS": "0.01"}


def test_a_training_goes_on_after_kill_9_of_the_service_and_registers_once(tmp_path: Path) -> None:
    with running(tmp_path, **OFTEN) as (process, client):
        send_towns(client)
        send_set(client, town_lines(), "towns")
        job_id = client.post("/adapters/towns/train", json={"dataset": "towns", "epochs": 6}).json()["id"]
        deadline = time.monotonic() + 60
        while (
            client.get(f"/jobs/{job_id}").json()["progress"]["done"] < 5
            or not client.get(f"/jobs/{job_id}/loss").json()["points"]
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.get("/adapters").json()["adapters"] == []
        os.kill(process.pid, signal.SIGKILL)
    with running(tmp_path, **OFTEN) as (_, client):
        job = wait_for(client, job_id, "succeeded", "failed")
        assert job["error"] is None
        points = [point["step"] for point in client.get(f"/jobs/{job_id}/loss").json()["points"]]
        assert points == sorted(set(points))
        assert [version["version"] for version in client.get("/adapters/towns").json()["versions"]] == [1]
    assert list(tmp_path.glob("tenants/*/training/*")) == []
