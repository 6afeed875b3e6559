"""The official `openai` client against the real server: models, chat, streams, adapters, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.local_server import LocalServer
from tests.adapters.reader_lora import write_lora
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTION: list[Any] = [{"role": "user", "content": "When was the lighthouse built?"}]


@pytest.fixture
def client(server: LocalServer, tenant: httpx.Client) -> Iterator[openai.OpenAI]:
    key = tenant.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def test_it_answers_from_the_documents_with_citations(client: openai.OpenAI, tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    done = client.chat.completions.create(model="base", messages=QUESTION)
    assert done.object == "chat.completion"
    assert done.choices[0].message.content == "1874"
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
    lorebase = (done.model_extra or {})["lorebase"]
    assert lorebase["citations"][0]["document_id"] == document["id"]
    assert lorebase["passages"]
    assert not lorebase["abstained"]


def test_it_streams_chunks_that_join_to_the_answer(client: openai.OpenAI, tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    chunks = list(
        client.chat.completions.create(
            model="base", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "1874"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert len({c.id for c in chunks}) == 1
    raw = tenant.post("/v1/chat/completions", json={"model": "base", "messages": QUESTION, "stream": True})
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("data: [DONE]\n\n")


def test_an_abstention_is_said_in_words_and_marked(client: openai.OpenAI, tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    question: list[Any] = [{"role": "user", "content": "Which vitamin is found in oranges?"}]
    done = client.chat.completions.create(model="base", messages=question)
    assert done.choices[0].message.content == "I cannot answer this from the documents."
    assert (done.model_extra or {})["lorebase"]["abstained"]
    streamed = list(client.chat.completions.create(model="base", messages=question, stream=True))
    assert streamed[1].choices[0].delta.content == "I cannot answer this from the documents."


def test_earlier_messages_are_the_history_of_a_follow_up(client: openai.OpenAI, tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE, "The bakery was built by nobody knows whom.")
    done = client.chat.completions.create(
        model="base",
        messages=[
            {"role": "system", "content": "Be brief."},
            *QUESTION,
            {"role": "assistant", "content": "1874"},
            {"role": "user", "content": [{"type": "text", "text": "Who built it?"}]},
        ],
    )
    lorebase = (done.model_extra or {})["lorebase"]
    assert done.choices[0].message.content == "Anna Brandt"
    assert lorebase["rewritten_question"] == "Who built the lighthouse?"
    assert "system message" in lorebase["warnings"][0]
    asked = {"question": "Who built it?", "history": [{"question": QUESTION[0]["content"], "answer": "1874"}]}
    assert tenant.post("/ask", json=asked).json()["answer"] == "Anna Brandt"


def test_models_are_the_base_and_the_tenants_adapters(
    client: openai.OpenAI, tenant: httpx.Client, tmp_path: Path
) -> None:
    ingest(tenant, LIGHTHOUSE)
    folder = write_lora(tmp_path / "sea").folder
    assert upload(tenant, "sea", folder).status_code == 201
    base, version = [m.id for m in client.models.list()]
    assert version == "sea@1"
    loaded = tenant.post("/v1/load_lora_adapter", json={"lora_name": "sea", "lora_path": "/etc"})
    assert loaded.status_code == 200
    assert "not opened" in loaded.json()["message"]
    assert [m.id for m in client.models.list()] == [base, "sea", "sea@1"]
    assert client.models.retrieve("sea@1").id == "sea@1"
    assert tenant.get("/adapters/sea").json()["versions"][0]["state"] == "resident"
    for model in ("sea", "sea@1"):
        assert client.chat.completions.create(model=model, messages=QUESTION).model == "sea@1"
    assert client.chat.completions.create(model=base, messages=QUESTION).model == base
    assert tenant.post("/v1/unload_lora_adapter", json={"lora_name": "sea"}).status_code == 200
    assert tenant.get("/adapters/sea").json()["versions"][0]["state"] == "registered"
    assert client.chat.completions.create(model="sea", messages=QUESTION).model == "sea@1"


def test_adapters_that_are_not_registered_are_not_loaded(tenant: httpx.Client, tmp_path: Path) -> None:
    body = {"lora_name": "sea", "lora_path": str(write_lora(tmp_path / "sea").folder)}
    assert_problem(tenant.post("/v1/load_lora_adapter", json=body), 404, "unknown_adapter")
    assert_problem(tenant.post("/v1/unload_lora_adapter", json={"lora_name": "sea"}), 404, "unknown_adapter")
    assert_problem(tenant.post("/v1/load_lora_adapter", json={"lora_name": "base"}), 422)


def test_a_bad_key_and_an_unknown_model_are_the_clients_own_errors(client: openai.OpenAI, server: LocalServer) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert unknown.value.code == "model_not_found"
    assert "gpt-4" in unknown.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong-key-of-some-length", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.models.list()
    assert "unknown, revoked or expired" in refused.value.message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "hold a question"),
        ({"messages": [{"role": "user", "content": " "}]}, "hold a question"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "the user's"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "send text"),
        ({"messages": [{"role": "user", "content": "why " * 25_000}]}, "too many"),
        ({"messages": [{"role": "user", "content": "x"}] * 201}, "messages"),
        ({"n": 2}, "one answer"),
        ({"tools": [{"type": "function"}]}, "Tools"),
        ({"logprobs": True}, "probabilities"),
        ({"response_format": {"type": "json_object"}}, "only text"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"lorebase": {"template": "none"}}, "no such template"),
        ({"lorebase": {"retrieval": False}}, "only quotes"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_with_the_reason(
    tenant: httpx.Client, fields: dict[str, Any], reason: str, stream: bool
) -> None:
    body = {"model": "base", "messages": QUESTION, "stream": stream, **fields}
    response = tenant.post("/v1/chat/completions", json=body)
    problem = assert_problem(response, 404 if "template" in reason else 422)
    assert reason in problem["detail"]
    assert problem["error"]["message"] == problem["detail"]


def test_sampling_fields_are_taken_and_the_reader_says_that_it_ignores_them(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    body = {
        "question": "When was the lighthouse built?",
        "temperature": 0.7,
        "stop": ["never met"],
        "template": "builtin",
    }
    warnings = tenant.post("/ask", json=body).json()["warnings"]
    assert any("stop, temperature had no effect" in warning for warning in warnings)
    assert any("template has no effect" in warning for warning in warnings)


def test_templates_are_versioned_and_one_can_be_the_default(tenant: httpx.Client) -> None:
    first = tenant.put("/templates/short", json={"system": "Be brief."})
    assert (first.status_code, first.json()["version"]) == (200, 1)
    assert tenant.put("/templates/short", json={"system": "Be brief."}).json()["version"] == 1
    assert tenant.put("/templates/short", json={"system": "Be very brief."}).json()["version"] == 2
    assert tenant.get("/templates/short@1").json()["system"] == "Be brief."
    assert tenant.get("/templates/short").json()["version"] == 2
    assert "{question}" in tenant.get("/templates/builtin").json()["question"]
    assert tenant.put("/templates/default", json={"name": "short"}).status_code == 200
    listed = {"default": "short", "templates": [{"name": "short", "versions": [1, 2]}]}
    assert tenant.get("/templates").json() == listed
    assert tenant.delete("/templates/short").status_code == 204
    assert tenant.get("/templates").json() == {"default": "builtin", "templates": []}
    assert tenant.put("/templates/short", json={}).json()["version"] == 3
    assert_problem(tenant.get("/templates/short@1"), 404, "unknown_template")
    for bad in ({"system": "{{ 7 * 7 }}"}, {"question": "{sources}"}, {"question": "{sources}{question}{x}"}):
        assert_problem(tenant.put("/templates/bad", json=bad), 422, "invalid_template")
    assert_problem(tenant.put("/templates/Bad Name", json={}), 422, "invalid_template_name")
    assert_problem(tenant.put("/templates/default", json={"name": "nobody"}), 404)
