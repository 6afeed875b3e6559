"""The `openai` engine: the contract with real servers behind it, and what it does when a server misbehaves."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.engine import AdapterRef, Failed, Row
from adapters.errors import InvalidAdapter, NotSupported, QueueFull, RequestTooLong, UpstreamFailed, UpstreamUnavailable
from adapters.remote import RemoteEngine
from adapters.template import Passage
from app.local_server import LocalServer, free_port, local_server
from tests.adapters.engine_contract import EngineContract, Heard, ask, same
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.freezing_proxy import freezing_proxy

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
START_S = 110.0
PASSAGES = (Passage("Revenue was 12 million in 2019.", "Report"), Passage("Staff have thirty days of holiday."))
ROWS = (
    Row("What was revenue?", PASSAGES, max_tokens=12, share_key="a"),
    Row("How many days?", PASSAGES[1:], max_tokens=7, share_key="b"),
    Row("Who?", PASSAGES, max_tokens=3),
)


def until(holds: Callable[[], bool], patience: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"), context=2048)


@pytest.fixture(scope="module")
def behind(model: Path) -> Iterator[LocalServer]:
    """A second Lorebase, with a language model."""
    with local_server(environment={"LOREBASE_MODEL": str(model), "OMP_NUM_THREADS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[AdapterRef]:
    folder = tmp_path_factory.mktemp("adapters")
    return [make_lora(model, folder / "a", seed=1), make_lora(model, folder / "b", seed=2, rank=8)]


class TestContract(EngineContract):
    """The seam, with a Lorebase behind it."""

    @pytest.fixture
    def engine(self, model: Path, behind: LocalServer) -> Iterator[RemoteEngine]:
        engine = RemoteEngine(model.name, f"{behind.url}/v1", key=behind.default_key)
        engine.load()
        yield engine
        engine.close()

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return ROWS

    def test_passages_are_cited_and_counted_as_by_a_model_in_this_process(self, engine: RemoteEngine) -> None:
        (done,) = ask(engine, ROWS[:1])
        assert done.prompt_tokens > 50
        assert 1 <= done.completion_tokens <= 12
        assert 0 < done.confidence < 1
        assert engine.failure is None

    def test_what_the_server_refuses_is_refused_with_its_reason(
        self, engine: RemoteEngine, model: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidAdapter) as refused:
            engine.check(make_lora(model, tmp_path / "idle", scale=0.0).folder)
        assert refused.value.reason == "no_effect"

    def test_what_was_deleted_there_is_brought_again(
        self, engine: RemoteEngine, behind: LocalServer, adapters: Sequence[AdapterRef]
    ) -> None:
        row = replace(ROWS[0], adapter=adapters[0])
        (before,) = ask(engine, [row])
        name = adapters[0].key[:40]
        headers = {"Authorization": f"Bearer {behind.default_key}"}
        with httpx.Client(base_url=behind.url, headers=headers) as client:
            assert client.delete(f"/adapters/{name}").status_code == 204
            (after,) = ask(engine, [row])
            assert same(after, before)
            engine.unload(adapters[0])
            until(lambda: client.get(f"/adapters/{name}").status_code == 404)


@pytest.fixture(scope="module")
def vllm(model: Path) -> Iterator[str]:
    """The address of a server that takes adapters as vLLM does."""
    with serving("tests.adapters.vllm_stand_in", str(model), probe="/held") as url:
        yield url


class TestContractOverVllm(EngineContract):
    """The seam, with a server behind it that reads adapters from folders."""

    @pytest.fixture
    def make(self, model: Path, vllm: str) -> Iterator[Callable[..., RemoteEngine]]:
        with loaded_engines(model.name, vllm) as make:
            yield make

    @pytest.fixture
    def engine(self, make: Callable[..., RemoteEngine]) -> RemoteEngine:
        return make()

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return ROWS

    def test_an_adapter_has_one_name_for_ever(
        self, engine: RemoteEngine, vllm: str, adapters: Sequence[AdapterRef]
    ) -> None:
        named = replace(adapters[0], name="tenant/sea@3")
        engine.prepare(named)
        assert "tenant/sea@3" in held_there(vllm)
        engine.unload(named)
        until(lambda: "tenant/sea@3" not in held_there(vllm))

    def test_what_a_restart_forgot_is_loaded_again_once(
        self, engine: RemoteEngine, vllm: str, adapters: Sequence[AdapterRef]
    ) -> None:
        rows = [replace(row, adapter=adapters[0]) for row in ROWS]
        before = ask(engine, rows)
        httpx.post(f"{vllm}/forget", json={})
        assert all(same(*pair) for pair in zip(ask(engine, rows), before, strict=True))
        assert engine.adapter_memory().loads == 1

    def test_a_name_that_is_taken_there_means_our_folder_afterwards(
        self, make: Callable[..., RemoteEngine], adapters: Sequence[AdapterRef]
    ) -> None:
        one, other = (replace(adapter, name="tenant/sea@1") for adapter in adapters)
        row = replace(ROWS[0], adapter=one)
        (expected,) = ask(make(), [row])
        make().prepare(other)
        (found,) = ask(make(), [row])
        assert same(found, expected)

    def test_what_was_used_least_recently_is_unloaded_beyond_the_budget(
        self, make: Callable[..., RemoteEngine], vllm: str, adapters: Sequence[AdapterRef]
    ) -> None:
        sizes = [(adapter.folder / ADAPTER_WEIGHTS).stat().st_size for adapter in adapters]
        engine = make(adapter_budget_bytes=max(sizes))
        for adapter in (*adapters, adapters[0]):
            ask(engine, [replace(ROWS[0], adapter=adapter)])
        assert engine.adapter_memory().evictions == 2
        until(lambda: adapters[1].key[:40] not in held_there(vllm))
        assert adapters[0].key[:40] in held_there(vllm)

    def test_what_the_server_refuses_is_refused_with_its_reason(
        self, make: Callable[..., RemoteEngine], vllm: str, model: Path, tmp_path: Path
    ) -> None:
        for reason, folder in (
            ("no_effect", make_lora(model, tmp_path / "idle", scale=0.0).folder),
            ("rank", make_lora(model, tmp_path / "wide", rank=32).folder),
            ("config", make_lora(make_tiny_llama(tmp_path / "big", hidden=128), tmp_path / "other").folder),
        ):
            with pytest.raises(InvalidAdapter) as refused:
                make().check(folder)
            assert refused.value.reason == reason
        apart = make(path_there=lambda folder: f"/elsewhere/{folder.name}")
        with pytest.raises(UpstreamFailed, match="LOREBASE_OPENAI_DATA"):
            apart.prepare(make_lora(model, tmp_path / "fine"))
        assert held_there(vllm) & {"idle", "wide", "other", "fine"} == set()


def held_there(url: str) -> set[str]:
    return set(httpx.get(f"{url}/held").json()["held"])


@contextmanager
def loaded_engines(model: str, url: str) -> Iterator[Callable[..., RemoteEngine]]:
    engines: list[RemoteEngine] = []

    def make(model: str = model, **options: Any) -> RemoteEngine:
        engines.append(RemoteEngine(model, f"{url}/v1", **options))
        engines[-1].load()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@contextmanager
def serving(module: str, *arguments: str, probe: str) -> Iterator[str]:
    """Run a server of the tests in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", module, str(port), *arguments])
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{url}{probe}"), START_S)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[str]:
    """The address of a server that does what the model's name says."""
    with serving("tests.adapters.misbehaving_server", probe="/seen") as url:
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def seen(url: str, what: str) -> int:
    return int(httpx.get(f"{url}/seen").json()[what])


@pytest.fixture
def engine_for(misbehaving: str) -> Iterator[Callable[..., RemoteEngine]]:
    with loaded_engines("good", misbehaving) as make:
        yield make
        httpx.get(f"{misbehaving}/up")


def refused(engine: RemoteEngine, row: Row = ROWS[0]) -> Exception:
    heard = Heard()
    engine.submit(row, heard)
    end = heard.end()
    assert isinstance(end, Failed), end
    return end.error


def test_an_answer_is_read_with_its_citations_tokens_and_probabilities(engine_for: Callable[..., RemoteEngine]) -> None:
    (done,) = ask(engine_for("good"), ROWS[:1])
    assert done.answer == "The revenue was 12 million [1]."
    assert [span.passage for span in done.spans] == [0]
    assert (done.prompt_tokens, done.completion_tokens) == (40, 6)
    assert done.confidence == pytest.approx(0.9048, abs=1e-3)


@pytest.mark.parametrize("model", ["flaky", "busy", "refusing"])
def test_what_passes_is_tried_again(engine_for: Callable[..., RemoteEngine], model: str) -> None:
    (done,) = ask(engine_for(model), ROWS[:1])
    assert done.answer.startswith("The revenue")


@pytest.mark.parametrize("model", ["broken", "garbage", "plain"])
def test_what_does_not_pass_is_a_clear_failure(engine_for: Callable[..., RemoteEngine], model: str) -> None:
    assert isinstance(refused(engine_for(model)), UpstreamFailed)


def test_a_server_whose_answers_break_off_may_be_asked_again_later(engine_for: Callable[..., RemoteEngine]) -> None:
    assert isinstance(refused(engine_for("cut")), UpstreamUnavailable)


def test_a_server_that_stands_still_is_told_of_and_left_alone_until_it_answers(misbehaving: str) -> None:
    there = urlsplit(misbehaving)
    with freezing_proxy(lambda: socket.create_connection((str(there.hostname), int(there.port or 0)))) as proxy:
        engine = RemoteEngine("good", f"http://127.0.0.1:{proxy.port}/v1", silence_seconds=0.3)
        engine.load()
        ask(engine, ROWS[:1])
        proxy.freeze()
        for _ in range(2):
            refused(engine) if engine.failure is None else None
        assert engine.failure is not None
        with pytest.raises(UpstreamUnavailable):
            engine.submit(ROWS[0], Heard())
        proxy.thaw()
        until(lambda: engine.failure is None)
        ask(engine, ROWS[:1])
        engine.close()


def test_a_text_to_stop_at_ends_the_answer_and_closes_the_request(
    engine_for: Callable[..., RemoteEngine], misbehaving: str
) -> None:
    closed = seen(misbehaving, "closed")
    (done,) = ask(engine_for("slow"), [replace(ROWS[0], stop=("was", "a", "b", "c", "d"))])
    assert done.answer == "The revenue"
    until(lambda: seen(misbehaving, "closed") > closed)


def test_a_cancelled_row_closes_its_request(engine_for: Callable[..., RemoteEngine], misbehaving: str) -> None:
    engine, heard, closed = engine_for("slow"), Heard(), seen(misbehaving, "closed")
    submission = engine.submit(ROWS[0], heard)
    until(lambda: bool(heard.events))
    submission.cancel()
    told = len(heard.events)
    until(lambda: seen(misbehaving, "closed") > closed)
    assert engine.status().running == 0
    assert len(heard.events) == told


def test_the_queue_is_bounded(engine_for: Callable[..., RemoteEngine]) -> None:
    engine = engine_for("slow", max_batch=1, max_waiting=1)
    rows = [engine.submit(ROWS[0], Heard())]
    until(lambda: engine.status().running == 1)
    rows.append(engine.submit(ROWS[0], Heard()))
    with pytest.raises(QueueFull):
        engine.submit(ROWS[0], Heard())
    for row in rows:
        row.cancel()


def test_a_server_that_keeps_failing_is_left_alone_until_it_is_back(
    engine_for: Callable[..., RemoteEngine], misbehaving: str
) -> None:
    engine = engine_for("good")
    httpx.get(f"{misbehaving}/down")
    for _ in range(2):
        refused(engine) if engine.failure is None else None
    assert engine.failure is not None
    assert "GPU fell off" in engine.failure
    before = seen(misbehaving, "requests")
    with pytest.raises(UpstreamUnavailable):
        engine.submit(ROWS[0], Heard())
    assert seen(misbehaving, "requests") == before
    httpx.get(f"{misbehaving}/up")
    until(lambda: engine.failure is None)
    ask(engine, ROWS[:1])


def test_a_server_that_is_not_there_or_lacks_the_model_is_no_reason_to_end(misbehaving: str) -> None:
    for url, model in ((f"http://127.0.0.1:{free_port()}/v1", "good"), (f"{misbehaving}/v1", "nobody")):
        engine = RemoteEngine(model, url)
        engine.load()
        assert engine.failure
        with pytest.raises(UpstreamUnavailable):
            engine.submit(ROWS[0], Heard())
        engine.close()


def test_what_cannot_be_sent_is_refused_at_once(
    engine_for: Callable[..., RemoteEngine], adapters: Sequence[AdapterRef]
) -> None:
    engine = engine_for("good")
    with pytest.raises(RequestTooLong):
        engine.submit(replace(ROWS[0], question="why " * 25_000), Heard())
    with pytest.raises(NotSupported):  # a model of a server that takes no adapters
        engine_for("other").submit(replace(ROWS[0], adapter=adapters[0]), Heard())


def test_a_server_without_runtime_adapters_is_told_of(
    engine_for: Callable[..., RemoteEngine], adapters: Sequence[AdapterRef]
) -> None:
    engine = engine_for("good")  # says it is vLLM, and knows no such address
    for ask_for in (lambda: engine.prepare(adapters[0]), lambda: engine.check(adapters[0].folder)):
        with pytest.raises(NotSupported, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            ask_for()
    assert isinstance(refused(engine, replace(ROWS[0], adapter=adapters[0])), NotSupported)
    engine.pin(adapters[0])
    until(lambda: engine.adapter_memory().pinned == frozenset())


def test_owners_are_kept_apart_in_the_servers_cache(engine_for: Callable[..., RemoteEngine], misbehaving: str) -> None:
    ask(engine_for("good"), [replace(ROWS[0], cache_salt="one tenant")])
    assert httpx.get(f"{misbehaving}/seen").json()["bodies"][-1]["cache_salt"] == "one tenant"
