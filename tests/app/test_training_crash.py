"""The service is killed while it trains, and the training goes on: one version, none half done."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.adapters.tiny_llama import make_tiny_llama
from tests.app.test_restart import running
from tests.app.test_training_over_http import send_set, send_towns, town_lines, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]
OFTEN = {"LOREBASE_LOG_LEVEL": "warning", "LOREBASE_TRAINING_CHECKPOINT_SECONDS": "0.01"}


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


def test_a_training_of_another_base_is_failed_before_it_begins(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "model")
    with running(tmp_path / "data") as (process, client):
        send_towns(client)
        send_set(client, town_lines(), "towns")
        job_id = client.post("/adapters/towns/train", json={"dataset": "towns", "epochs": 500}).json()["id"]
        os.kill(process.pid, signal.SIGKILL)
    with running(tmp_path / "data", LOREBASE_MODEL=str(model)) as (_, client):
        job = wait_for(client, job_id, "succeeded", "failed")
        assert "The base model has changed" in job["error"]
        assert client.get("/adapters").json()["adapters"] == []


def test_an_active_version_is_trained_again_also_when_the_service_is_killed_right_behind_the_deletion(
    tmp_path: Path,
) -> None:
    with running(tmp_path, **OFTEN) as (process, client):
        send_towns(client)
        send_set(client, town_lines(), "towns")
        body = {"dataset": "towns", "targets": "all", "epochs": 1}
        first = client.post("/adapters/towns/train", json=body).json()["id"]
        assert wait_for(client, first, "succeeded", "failed")["error"] is None
        client.post("/adapters/towns/promote", json={"version": 1})
        client.put("/policy", json={"on_erasure": "retrain"})
        (document,) = client.get("/documents", params={"title": "Nameford 11"}).json()["documents"]
        deleting = threading.Thread(target=lambda: suppressed(client.delete, f"/documents/{document['id']}"))
        deleting.start()
        database = next(tmp_path.glob("tenants/*/lorebase.db"))
        wait_until_erased(database)
        os.kill(process.pid, signal.SIGKILL)
        deleting.join()
    with running(tmp_path, **OFTEN) as (_, client):
        trained = [job for job in client.get("/jobs").json()["jobs"] if job["kind"] == "train"]
        assert [job["id"] for job in trained][1:] == [first], "one more, and no more than one"
        job = wait_for(client, trained[0]["id"], "succeeded", "failed")
        assert any("2 examples were left out" in warning for warning in job["warnings"])
        versions = client.get("/adapters/towns").json()["versions"]
        assert [(each["version"], bool(each["tainted"])) for each in versions] == [(1, True), (2, False)]


def suppressed(call: Callable[[str], object], path: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        call(path)


def wait_until_erased(database: Path) -> None:
    """Until the deletion is committed; what follows from it may not be done yet."""
    deadline = time.monotonic() + 30
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        while not connection.execute("SELECT count(*) FROM erased_documents").fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.001)
