"""The same service with a causal language model behind the seam: a tiny random one, so what it says means nothing,
but everything around it must hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from transformers import AutoModelForCausalLM

from app.local_server import LocalServer, local_server
from tests.adapters.test_whole_models import fine_tune
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def llama(model: Path) -> Iterator[LocalServer]:
    with local_server(environment={"LOREBASE_MODEL": str(model)}) as running:
        yield running


@pytest.fixture
def client(llama: LocalServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {llama.default_key}"}
    with httpx.Client(base_url=llama.url, headers=headers, timeout=60) as client:
        ingest(client, LIGHTHOUSE)
        yield client


def test_it_generates_an_answer_of_at_most_max_tokens(client: httpx.Client) -> None:
    answered = ask(client, "When was the lighthouse built?", max_tokens=5)
    assert answered["answer"]
    assert 1 <= answered["usage"]["completion_tokens"] <= 5
    assert answered["passages"][0]["text"] in LIGHTHOUSE


def test_streamed_tokens_joined_are_the_answer(client: httpx.Client) -> None:
    body = {"question": "When was the lighthouse built?", "max_tokens": 8, "stream": True}
    with client.stream("POST", "/ask", json=body) as response:
        events = [block.split("\ndata: ", 1) for block in "".join(response.iter_text()).strip().split("\n\n")]
    tokens = [json.loads(data)["text"] for kind, data in events if kind == "event: token"]
    assert "".join(tokens) == json.loads(events[-1][1])["answer"]


def test_adapters_are_selected_by_header_here_too(client: httpx.Client, model: Path, tmp_path: Path) -> None:
    folder = make_lora(model, tmp_path / "lora", seed=1).folder
    assert upload(client, "sea", folder).status_code == 201
    client.post("/adapters/sea/promote", json={"version": 1})
    assert ask(client, "Who built it?", adapter="sea", max_tokens=3)["adapter"]["version"] == 1
    assert ask(client, "Who built it?", adapter="base", max_tokens=3)["adapter"] is None


def test_a_whole_fine_tuned_model_is_a_version_like_others(client: httpx.Client, model: Path, tmp_path: Path) -> None:
    version = fine_tune(AutoModelForCausalLM.from_pretrained(model), tmp_path / "version", seed=1)
    assert upload(client, "whole", version.folder).status_code == 201
    before = ask(client, "Who built it?", adapter="base", max_tokens=5)
    found = ask(client, "Who built it?", adapter="whole@1", max_tokens=5)
    assert (found["answer"], found["confidence"]) != (before["answer"], before["confidence"])
    assert ask(client, "Who built it?", adapter="base", max_tokens=5)["answer"] == before["answer"]
    (listed,) = client.get("/adapters/whole").json()["versions"]
    assert (listed["kind"], listed["rank"], listed["state"]) == ("full", 0, "resident")


def test_a_question_that_does_not_fit_the_model_is_refused(client: httpx.Client) -> None:
    response = client.post("/ask", json={"question": "lighthouse " * 350})
    assert_problem(response, 422, "too_long")


def test_a_chat_without_retrieval_runs_on_the_conversation_alone(client: httpx.Client) -> None:
    body = {
        "model": "base",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 4,
        "lorebase": {"retrieval": False},
    }
    answered = client.post("/v1/chat/completions", json=body).json()
    assert answered["choices"][0]["finish_reason"] == "length"
    assert answered["usage"]["completion_tokens"] == 4
    assert answered["lorebase"]["passages"] == []


def test_a_template_changes_the_prompt(client: httpx.Client) -> None:
    plain = ask(client, "Who built it?", max_tokens=2)
    assert client.put("/templates/short", json={"system": "Answer."}).status_code == 200
    short = ask(client, "Who built it?", max_tokens=2, template="short")
    assert short["template"] == "short@1"
    assert short["usage"]["prompt_tokens"] < plain["usage"]["prompt_tokens"]


def test_it_may_split_documents_and_where_it_cannot_that_is_noted(client: httpx.Client) -> None:
    """A random model names no topics: every part of the document is split recursively, and the document says so."""
    assert "agentic" in client.get("/splitting").json()["available"]
    text = " ".join(f"Sentence number {i} tells of the harbour and its boats." for i in range(30))
    body = {"documents": [{"text": text}], "split": "agentic"}
    document = client.post("/ingest", params={"wait": "true"}, json=body).json()["documents"][0]
    assert document["status"] == "ready"
    split = client.get(f"/documents/{document['id']}").json()["split"]
    assert split["method"] == "agentic"
    assert "recursively" in split["note"]
    assert client.get(f"/documents/{document['id']}/chunks").json()["total"] > 1
