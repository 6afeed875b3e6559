"""The model server as a process: the engines' contract through it, the same answers as without it, clear refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from adapters import CausalEngine, Example, Passage, PromptTemplate, Row, Turn
from adapters.engine import AdapterRef
from adapters.remote import RemoteEngine
from adapters.template import QUESTION
from tests.adapters.engine_contract import EngineContract, ask, same
from tests.adapters.test_remote import until
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.app.model_server.servers import KEY, RunningModelServer, model_server
from tests.app.terminal.console import lorebase
from tests.app.texts import assert_problem

pytestmark = pytest.mark.e2e
PASSAGES = (Passage("Revenue was 12 million in 2019.", "Report"), Passage("Staff have thirty days of holiday."))
ROWS = (
    Row("What was revenue?", PASSAGES, max_tokens=12, share_key="a"),
    Row("How many days?", PASSAGES[1:], max_tokens=7, share_key="b"),
    Row("Who?", PASSAGES, max_tokens=3),
)
SHOWN = PromptTemplate(
    "Name your sources.", QUESTION, (Example("How many towers?", "Two towers [1] [2].", (Passage("a"), Passage("b"))),)
)
HISTORY = (Turn("Is there <sources> in it?", "There is [1]."), Turn("And <|end|>?", "I cannot answer this."))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"), context=4096, endless=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that the server reads adapters from."""
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def adapters(model: Path, folder: Path) -> Sequence[AdapterRef]:
    return [make_lora(model, folder / "a", seed=1), make_lora(model, folder / "b", seed=2, rank=8)]


@pytest.fixture(scope="module")
def server(model: Path, folder: Path) -> Iterator[RunningModelServer]:
    with model_server(model, folder) as running:
        yield running


@pytest.fixture
def client(server: RunningModelServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def engine_in_front(server: RunningModelServer, model: Path, key: str = KEY) -> RemoteEngine:
    engine = RemoteEngine(model.name, f"{server.url}/v1", key=key)
    engine.load()
    return engine


class TestContract(EngineContract):
    """The seam of engines, with the model server behind it."""

    @pytest.fixture
    def engine(self, model: Path, server: RunningModelServer) -> Iterator[RemoteEngine]:
        engine = engine_in_front(server, model)
        yield engine
        engine.close()

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return ROWS


def test_answers_are_those_of_the_engine_without_a_server_between(
    model: Path, server: RunningModelServer, adapters: Sequence[AdapterRef]
) -> None:
    rows = [
        replace(row, adapter=adapter, template=template, history=history)
        for row in ROWS
        for adapter in (None, *adapters)
        for template in (row.template, SHOWN)
        for history in ((), HISTORY)
    ]
    here, there = CausalEngine(model, dtype="float32"), engine_in_front(server, model)
    here.load()
    try:
        for row, one, other in zip(rows, ask(here, rows), ask(there, rows), strict=True):
            assert same(one, other), row
            assert (one.prompt_tokens, one.completion_tokens) == (other.prompt_tokens, other.completion_tokens), row
    finally:
        here.close()
        there.close()


def test_the_official_client_chats_streams_and_sees_probabilities(server: RunningModelServer, model: Path) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    assert next(iter(client.models.list())).id == model.name
    options = {"model": model.name, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 6}
    whole = client.chat.completions.create(**options, logprobs=True)  # type: ignore[call-overload]
    streamed = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == whole.choices[0].message.content
    assert streamed[-1].usage == whole.usage
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    assert "".join(entry.token for entry in whole.choices[0].logprobs.content) == text


def test_a_name_means_one_adapter_until_it_is_unloaded(
    client: httpx.Client, adapters: Sequence[AdapterRef], model: Path
) -> None:
    load = {"lora_name": "tenant/sea@1", "lora_path": str(adapters[0].folder)}
    assert client.post("/v1/load_lora_adapter", json=load).status_code == 200
    taken = client.post("/v1/load_lora_adapter", json={**load, "lora_path": str(adapters[1].folder)})
    assert "already been loaded" in assert_problem(taken, 400, "adapter_loaded")["detail"]
    card = client.get("/v1/models").json()["data"][-1]
    assert (card["id"], card["parent"], card["root"]) == ("tenant/sea@1", model.name, str(adapters[0].folder))
    assert "tenant/sea@1" in client.get("/replicas").json()["replicas"][0]["resident"]
    unload = {"lora_name": "tenant/sea@1"}
    assert client.post("/v1/unload_lora_adapter", json=unload).status_code == 200
    assert_problem(client.post("/v1/unload_lora_adapter", json=unload), 404, "model_not_found")
    assert adapters[0].key[:40] not in client.get("/replicas").json()["replicas"][0]["resident"]


def test_only_adapters_inside_its_folder_that_fit_its_model_are_loaded(
    client: httpx.Client, adapters: Sequence[AdapterRef], model: Path, folder: Path, tmp_path: Path
) -> None:
    outside = make_lora(model, tmp_path / "outside").folder
    (folder / "link").symlink_to(outside)
    before = client.get("/v1/models").json()
    for path in (outside, folder / "link", folder / ".." / outside.name, folder / "nothing", "/etc", "a\x01b"):
        refused = client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": str(path)})
        assert "No adapter found" in assert_problem(refused, 404, "no_adapter_there")["detail"]
    other = make_lora(make_tiny_llama(tmp_path / "big", hidden=128), folder / "other").folder
    refused = client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": str(other)})
    assert assert_problem(refused, 422, "invalid_adapter")["reason"] == "shape"
    as_base = {"lora_name": model.name, "lora_path": str(adapters[0].folder)}
    assert_problem(client.post("/v1/load_lora_adapter", json=as_base), 400, "adapter_loaded")
    assert client.get("/v1/models").json() == before


def test_what_cannot_be_answered_is_a_clear_problem(
    client: httpx.Client, server: RunningModelServer, model: Path
) -> None:
    chat = {"model": model.name, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4}
    for change, status, code in (
        ({"model": "tenant/nobody@1"}, 404, "model_not_found"),
        ({"messages": []}, 422, "invalid_request"),
        ({"messages": [{"role": "user", "content": "why " * 5000}]}, 422, "too_long"),
        ({"messages": [{"role": "robot", "content": "?"}]}, 422, "invalid_request"),
        ({"tools": [{"type": "function"}]}, 422, "invalid_request"),
        ({"top_logprobs": 3}, 422, "invalid_request"),
        ({"temperature": -1}, 422, "invalid_request"),
        ({"nonsense": 1}, 422, "invalid_request"),
    ):
        for stream in (False, True):
            refused = client.post("/v1/chat/completions", json={**chat, **change, "stream": stream})
            assert assert_problem(refused, status, code)["error"]["code"] == code
    broken = client.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert_problem(broken, 422, "invalid_request")
    assert_problem(client.post("/v1/chat/completions", content=b" " * 33 * 1024**2), 413, "too_large")
    assert_problem(client.get("/nothing"), 404, "not_found")
    for key, said in (("", "Send your key"), ("another key, which is wrong", "LOREBASE_MODEL_SERVER_KEY")):
        with server.client(key) as stranger:
            for path in ("/v1/models", "/replicas", "/nothing"):
                assert said in assert_problem(stranger.get(path), 401, "unauthorized")["detail"]
            assert_problem(stranger.post("/v1/chat/completions", content=b"{"), 401, "unauthorized")
            assert stranger.get("/health").status_code == 200


def test_a_front_with_the_wrong_key_says_so(server: RunningModelServer, model: Path) -> None:
    engine = engine_in_front(server, model, key="not the key, surely")
    try:
        assert "refuses us: This is not the model server's key" in (engine.failure or "")
    finally:
        engine.close()


def test_a_client_that_hangs_up_frees_its_row(client: httpx.Client, model: Path) -> None:
    chat = {"model": model.name, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 3800, "stream": True}

    def running() -> int:
        (replica,) = client.get("/replicas").json()["replicas"]
        return int(replica["running"])

    with client.stream("POST", "/v1/chat/completions", json=chat) as response:
        lines = response.iter_lines()  # kept, since its end would close the connection
        assert next(lines)
        assert running() == 1
    until(lambda: running() == 0, 5.0)


@pytest.mark.long
def test_it_does_not_begin_with_what_it_cannot_serve(tmp_path: Path) -> None:
    for arguments, said in (
        ((), "--model FOLDER"),
        (("--model", "builtin"), "--model FOLDER"),
        (("--model", str(tmp_path / "none")), "none"),
        (("--model", str(tmp_path), "--host", "0.0.0.0"), "LOREBASE_MODEL_SERVER_KEY"),
    ):
        ran = lorebase("model-server", *arguments)
        assert (ran.code, said in ran.error) == (1, True), ran
