"""The service with a model server behind it: cited answers, clear errors while it is away, search all along."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.local_server import free_port, local_server
from tests.adapters.test_remote import held_there, serving, until
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.app.test_isolation import upload
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


def test_a_tenants_adapter_is_loaded_into_the_model_server_under_its_own_name(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "model", context=2048)
    adapter = make_lora(model, tmp_path / "sea").folder
    wide = make_lora(model, tmp_path / "wide", rank=64).folder
    with serving("tests.adapters.vllm_stand_in", str(model), probe="/held") as vllm:
        environment = {"LOREBASE_MODEL": f"openai:{model.name}", "LOREBASE_OPENAI_URL": f"{vllm}/v1"}
        with local_server(environment=environment) as server:
            headers = {"Authorization": f"Bearer {server.default_key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
                ingest(client, LIGHTHOUSE)
                assert upload(client, "sea", adapter).status_code == 201
                refused = assert_problem(upload(client, "sea", wide), 422, "invalid_adapter")
                assert (refused["reason"], "max_lora_rank" in refused["detail"]) == ("rank", True)
                plain = ask(client, "Who built it?", max_tokens=5)
                adapted = ask(client, "Who built it?", adapter="sea@1", max_tokens=5)
                assert adapted["adapter"]["version"] == 1
                assert (plain["answer"], plain["confidence"]) != (adapted["answer"], adapted["confidence"])
                (name,) = held_there(vllm)
                assert name.endswith("/sea@1")
                assert client.get("/adapters/sea").json()["versions"][0]["state"] == "resident"
                assert client.delete("/adapters/sea").status_code == 204
                until(lambda: not held_there(vllm))
