"""A model that fails: one failure costs nobody's question but its own, and when it cannot go on the service says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.local_server import local_server
from tests.adapters.tiny_llama import make_tiny_llama
from tests.app.failing_model_server import FAIL_WHILE_THERE
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTION = {"question": "When was the lighthouse built?", "max_tokens": 20}


@pytest.fixture(params=["reader", "language model"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    model = "builtin" if request.param == "reader" else str(make_tiny_llama(tmp_path / "model", endless=True))
    environment = {"LOREBASE_MODEL": model, FAIL_WHILE_THERE: str(tmp_path / "fail")}
    with local_server(environment=environment, module="tests.app.failing_model_server") as server:
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            yield client


def test_one_failure_ends_nothing_and_a_model_that_cannot_go_on_is_told_of(
    client: httpx.Client, tmp_path: Path
) -> None:
    ingest(client, LIGHTHOUSE)
    before = ask(client, **QUESTION)
    (tmp_path / "fail").write_text("once")
    response = client.post("/ask", json=QUESTION)
    # A step is taken again, row by row; a batch of the reader is not.
    assert response.status_code == 200 or assert_problem(response, 503, "model_failed")
    assert client.get("/readyz").status_code == 200
    assert ask(client, **QUESTION)["answer"] == before["answer"]

    (tmp_path / "fail").write_text("always")
    with ThreadPoolExecutor(4) as many:
        for response in many.map(lambda _: client.post("/ask", json=QUESTION), range(4)):
            problem = assert_problem(response, 503)
            assert problem["code"] in ("model_unavailable", "model_failed", "not_ready")
    not_ready = client.get("/readyz")
    assert not_ready.status_code == 503
    assert "the device is gone" in not_ready.json()["reason"]
    assert client.get("/livez").status_code == 200

    (tmp_path / "fail").unlink()  # it does not come back by itself: what the process holds is not to be trusted
    for body in (QUESTION, {**QUESTION, "stream": True}):
        problem = assert_problem(client.post("/ask", json=body), 503, "not_ready")
        assert "restart the service" in problem["detail"]
    chat = {"model": "base", "messages": [{"role": "user", "content": "When?"}]}
    problem = assert_problem(client.post("/v1/chat/completions", json=chat), 503, "not_ready")
    assert json.dumps(problem["error"])
    assert client.post("/search", json={"query": "lighthouse"}).status_code == 200
    assert client.get("/documents").status_code == 200
