"""What outlives the process: acknowledged documents after kill -9, keys, adapters; and an orderly end on SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.local_server import LocalServer, free_port
from tests.adapters.reader_lora import write_lora
from tests.adapters.tiny_llama import make_tiny_llama
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.conftest import METRICS_KEY

pytestmark = pytest.mark.e2e
KEY = "a-key-for-the-default-tenant"


@contextmanager
def running(data: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server process on a data folder, ready; killed at the end if it still runs."""
    port = free_port()
    environment = {
        **os.environ, "LOREBASE_DATA": str(data), "LOREBASE_PORT": str(port), "LOREBASE_DEFAULT_KEY": KEY, **settings
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60
        ) as client:
            wait_until_ready(process, client)
            yield process, client
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[str], client: httpx.Client) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the server did not become ready")


def wait_until_asked(client: httpx.Client, questions: int) -> None:
    """Wait until the engine has so many questions."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        metrics = client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"}).text
        rows = re.findall(r"^lorebase_engine_rows\{[^}]*\} (\S+)", metrics, re.M)
        if sum(map(float, rows)) >= questions:
            return
        time.sleep(0.05)
    pytest.fail("the questions did not reach the engine")


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as (process, client):
        documents = [
            {"text": f"The number of house {i} is {i * 7 + 1000}. " + "It is painted. " * 200} for i in range(20)
        ]
        assert client.post("/ingest", json={"documents": documents}).status_code == 202
        acknowledged = client.post("/ingest", json={"documents": [{"title": "tower", "text": LIGHTHOUSE}]}).json()
        assert upload(client, "sea", write_lora(tmp_path / "lora").folder).status_code == 201
        client.post("/adapters/sea/promote", json={"version": 1})
        os.kill(process.pid, signal.SIGKILL)
    with running(tmp_path) as (_, client):
        deadline = time.monotonic() + 60
        while client.get(f"/jobs/{acknowledged['job_id']}").json()["state"] != "succeeded":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        listed = client.get("/documents").json()
        assert listed["total"] == 21
        assert {d["status"] for d in listed["documents"]} == {"ready"}
        assert ask(client, "When was the lighthouse built?")["answer"] == "1874"
        assert ask(client, "When was the lighthouse built?", adapter="sea")["adapter"]["version"] == 1


def test_what_does_not_end_in_the_time_to_stop_is_told_so(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "model", context=16_384, endless=True)
    settings = {
        "LOREBASE_MODEL": str(model), "LOREBASE_SHUTDOWN_SECONDS": "1", "LOREBASE_PREFILL_TOKENS": "1",
        "LOREBASE_METRICS_KEY": METRICS_KEY,
    }  # fmt: skip
    body = {"question": "Who?", "passages": [{"text": "Anna Brandt. " * 800}], "max_tokens": 4096}
    with running(tmp_path / "data", **settings) as (process, client):
        ended: dict[bool, httpx.Response] = {}

        def ask_once(stream: bool) -> None:
            ended[stream] = client.post("/ask", json={**body, "stream": stream})

        threads = [threading.Thread(target=ask_once, args=(stream,)) for stream in (False, True)]
        for thread in threads:
            thread.start()
        wait_until_asked(client, 2)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert_problem(ended[False], 503, "stopping")
    assert ended[False].headers["retry-after"]
    assert ended[True].text.endswith("\n\n")
    assert ended[True].text.count("event: error") == 1
    assert '"code": "stopping"' in ended[True].text
    assert "Traceback" not in output


def test_a_second_process_on_the_same_folder_is_refused_with_the_reason(server: LocalServer) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env={**os.environ, "LOREBASE_DATA": str(server.data), "LOREBASE_PORT": str(free_port())},
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    assert second.returncode == 1
    assert "LOREBASE_DATA" in second.stderr


def test_the_first_start_prints_keys_and_commands_that_work_and_keeps_them_private(tmp_path: Path) -> None:
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOREBASE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env={**environment, "LOREBASE_DATA": str(tmp_path / "data"), "LOREBASE_PORT": str(port)},
        stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(process, client)
        kept = tmp_path / "data" / "keys.env"
        assert kept.stat().st_mode & 0o777 == 0o600
        keys = dict(line.split("=", 1) for line in kept.read_text().splitlines())
        process.terminate()
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    commands = [line.strip() for line in output.splitlines() if line.strip().startswith("curl ")]
    assert len(commands) == 2
    assert all(key in output for key in keys.values())
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*.db*"))
    assert all(key.encode() not in stored for key in keys.values())


def test_neither_questions_nor_documents_nor_keys_are_logged(tmp_path: Path) -> None:
    settings = {"LOREBASE_LOG_LEVEL": "debug", "LOREBASE_LOG_FORMAT": "json", "LOREBASE_SLOW_REQUEST_SECONDS": "1e-9"}
    with running(tmp_path, **settings) as (process, client):
        ingest(client, "The zebrafinch sings at dawn.")
        question = {"question": "When does the zebrafinch sing?"}
        client.post("/ask", json=question, headers={"X-Request-ID": "the-slow-one"})
        client.post("/ask", json={"question": "zebrafinch\0"})
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert '"path": "/ask"' in output
    assert "zebrafinch" not in output
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    (slow,) = [line for line in lines if line["message"] == "slow request" and line["request_id"] == "the-slow-one"]
    assert {"retrieve", "queue", "first_token", "generate", "total"} == set(slow["stages"])
    assert KEY not in output


@pytest.mark.parametrize(
    ("name", "value"), [("LOREBASE_PORT", "many"), ("LOREBASE_DEFAULT_KEY", "short"), ("LOREBASE_DTYPE", "int3")]
)
def test_a_wrong_setting_is_named_and_nothing_starts(tmp_path: Path, name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env={**os.environ, "LOREBASE_DATA": str(tmp_path / "data"), name: value},
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr
