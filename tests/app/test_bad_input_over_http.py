"""What a language model's engine cannot do, asked over HTTP: a clear refusal of that request, and nothing else ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.local_server import free_port, local_server
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.app.test_isolation import upload
from tests.app.texts import assert_problem

pytestmark = pytest.mark.e2e
PATIENCE_S = 90.0
WIDE = 128
PASSAGES = [{"text": "The lighthouse was built in 1874."}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model with a long context, memory for keys and values of about 1,000 tokens, and little for adapters."""
    model = make_tiny_llama(tmp_path_factory.mktemp("model"), hidden=WIDE, context=16_384, endless=True)
    memory = {"LOREBASE_KV_MEMORY_MB": "1", "LOREBASE_ADAPTER_MEMORY_MB": "1"}
    with local_server(environment={"LOREBASE_MODEL": str(model), **memory}) as server:
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            yield client


def ask(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    if path == "/ask":
        body = {"question": "When?", "passages": PASSAGES, **fields}
    else:
        messages = [{"role": "user", "content": "When?"}]
        body = {"model": "base", "messages": messages, "lorebase": {"retrieval": False}, **fields}
    return client.post(path, json=body)


@pytest.mark.parametrize("path", ["/ask", "/v1/chat/completions"])
def test_what_cannot_be_answered_is_refused_and_the_next_question_is_answered(client: httpx.Client, path: str) -> None:
    for wrong in (0, -1, 4097, 10**12, 1.5, "many"):
        assert "max_tokens" in assert_problem(ask(client, path, max_tokens=wrong), 422, "invalid_request")["detail"]
    # It fits the model's context, but never the memory: refused beforehand, not found out on the way.
    assert "memory" in assert_problem(ask(client, path, max_tokens=4096), 422, "too_long")["detail"]
    endless = ask(client, path, max_tokens=20, stop=["a text that is never met"])
    assert endless.status_code == 200, endless.text
    answer = endless.json()
    assert (answer if path == "/ask" else answer["choices"][0])["finish_reason"] == "length"
    assert client.get("/readyz").status_code == 200


def test_what_could_never_be_in_memory_or_fits_another_base_is_refused_beforehand(
    client: httpx.Client, tmp_path: Path
) -> None:
    other = make_lora(make_tiny_llama(tmp_path / "other"), tmp_path / "for-another-base").folder
    problem = assert_problem(upload(client, "sea", other), 422, "invalid_adapter")
    assert (problem["reason"], "another base" in problem["detail"]) == ("shape", True)
    here = make_tiny_llama(tmp_path / "here", hidden=WIDE)
    large = make_lora(here, tmp_path / "large", rank=256, targets=("q_proj", "v_proj", "o_proj", "down_proj")).folder
    problem = assert_problem(upload(client, "sea", large), 422, "invalid_adapter")
    assert (problem["reason"], "LOREBASE_ADAPTER_MEMORY_MB" in problem["detail"]) == ("size", True)
    lines = "\n".join(f'{{"question": "What is {n}?", "answer": "{n}", "passage": "It is {n}."}}' for n in range(30))
    sent = client.post("/datasets", files={"file": ("numbers.jsonl", lines.encode())}, data={"name": "numbers"})
    assert sent.status_code == 201, sent.text
    refused = client.post("/adapters/sea/train", json={"dataset": "numbers", "method": "full"})
    detail = assert_problem(refused, 422, "invalid_training_data")["detail"]
    assert "LOREBASE_ADAPTER_MEMORY_MB" in detail
    assert client.get("/adapters").json()["adapters"] == []
    assert client.get("/readyz").status_code == 200


def test_a_model_without_a_tokenizer_leaves_the_process_alive_and_says_why(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "model")
    for file in model.glob("tokenizer*"):
        file.unlink()
    port, key = free_port(), "a-key-for-the-default-tenant"
    settings = {"LOREBASE_MODEL": str(model), "LOREBASE_DATA": str(tmp_path / "data"), "LOREBASE_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env={**os.environ, **settings, "LOREBASE_DEFAULT_KEY": key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            reason = _why_not_ready(client)
            assert "tokenizer" in reason
            assert client.get("/livez").status_code == 200
            assert "tokenizer" in assert_problem(ask(client, "/ask"), 503, "not_ready")["detail"]
            assert client.get("/documents").status_code == 200
    finally:
        process.kill()
        process.wait()


def _why_not_ready(client: httpx.Client) -> str:
    """The reason, once loading has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            found = client.get("/readyz").json()
        except httpx.TransportError:
            found = {"reason": "loading"}
        assert not found.get("ready")
        if "loading" not in found["reason"]:
            return str(found["reason"])
        time.sleep(0.1)
    raise AssertionError("it never said why")
