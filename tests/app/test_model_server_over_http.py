"""The service with a model server behind it: cited answers, clear errors while it is away, search all along."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from app.local_server import free_port, local_server
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0


@pytest.fixture
def behind() -> Iterator[str]:
    """The address of a model server that can be told to fail."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.adapters.misbehaving_server", str(port)])
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def test_a_model_server_answers_and_its_faults_are_clear_and_pass(behind: str) -> None:
    environment = {"LOREBASE_MODEL": "openai:good", "LOREBASE_OPENAI_URL": f"{behind}/v1"}
    with local_server(environment=environment) as server:
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            ingest(client, LIGHTHOUSE)
            answered = ask(client, "When?")
            assert answered["answer"] == "The revenue was 12 million [1]."
            assert answered["citations"][0]["index"] == 1
            httpx.get(f"{behind}/down")
            assert_problem(client.post("/ask", json={"question": "When?"}), 502, "upstream_failed")
            assert_problem(client.post("/ask", json={"question": "When?"}), 502, "upstream_failed")
            refused = client.post("/ask", json={"question": "When?"})
            assert "GPU fell off" in assert_problem(refused, 503, "not_ready")["detail"]
            assert refused.headers["retry-after"]
            assert client.get("/readyz").status_code == 503
            assert client.post("/search", json={"query": "lighthouse"}).status_code == 200
            httpx.get(f"{behind}/up")
            deadline = time.monotonic() + PATIENCE_S
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            ask(client, "When?")
