"""The `openai` engine: the contract with another Lorebase behind it, and what it does when a server misbehaves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from adapters.engine import AdapterRef, Failed, Row
from adapters.errors import NotSupported, QueueFull, RequestTooLong, UpstreamFailed, UpstreamUnavailable
from adapters.remote import RemoteEngine
from adapters.template import Passage
from app.local_server import LocalServer, free_port, local_server
from tests.adapters.engine_contract import EngineContract, Heard, ask
from tests.adapters.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
PASSAGES = (Passage("Revenue was 12 million in 2019.", "Report"), Passage("Staff have thirty days of holiday."))
ROWS = (
    Row("What was revenue?", PASSAGES, max_tokens=12, share_key="a"),
    Row("How many days?", PASSAGES[1:], max_tokens=7, share_key="b"),
    Row("Who?", PASSAGES, max_tokens=3),
)
_WITH_ADAPTERS = (
    "test_a_mixed_batch_gives_each_row_what_it_gets_alone",
    "test_adapters_change_answers_and_leave_the_base_alone",
    "test_a_prefetched_adapter_is_there_when_a_row_asks_for_it",
    "test_a_pinned_adapter_is_resident_until_it_is_unloaded",
    "test_check_accepts_what_fits",
    "test_a_missing_or_damaged_adapter_is_refused",
    "test_many_threads_may_submit_at_once",
)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
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


class TestContract(EngineContract):
    """The seam, with a Lorebase behind it; what concerns adapters does not apply."""

    @pytest.fixture(autouse=True)
    def _without_adapters(self, request: pytest.FixtureRequest) -> None:
        if request.node.name in _WITH_ADAPTERS:
            pytest.skip("this engine takes no adapters at run time")

    @pytest.fixture
    def engine(self, model: Path, behind: LocalServer) -> Iterator[RemoteEngine]:
        engine = RemoteEngine(model.name, f"{behind.url}/v1", key=behind.default_key)
        engine.load()
        yield engine
        engine.close()

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return ROWS

    @pytest.fixture
    def adapters(self) -> Sequence[AdapterRef]:
        return ()

    def test_passages_are_cited_and_counted_as_by_a_model_in_this_process(self, engine: RemoteEngine) -> None:
        (done,) = ask(engine, ROWS[:1])
        assert done.prompt_tokens > 50
        assert 1 <= done.completion_tokens <= 12
        assert 0 < done.confidence < 1
        assert engine.failure is None


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[str]:
    """The address of a server that does what the model's name says."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.adapters.misbehaving_server", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url))
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/seen").status_code == 200
    except httpx.TransportError:
        return False


def seen(url: str, what: str) -> int:
    return int(httpx.get(f"{url}/seen").json()[what])


@pytest.fixture
def engine_for(misbehaving: str) -> Iterator[Callable[..., RemoteEngine]]:
    engines: list[RemoteEngine] = []

    def make(model: str, **options: int) -> RemoteEngine:
        engines.append(RemoteEngine(model, f"{misbehaving}/v1", **options))
        engines[-1].load()
        return engines[-1]

    yield make
    httpx.get(f"{misbehaving}/up")
    for engine in engines:
        engine.close()


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


@pytest.mark.parametrize("model", ["broken", "cut", "garbage", "plain"])
def test_what_does_not_pass_is_a_clear_failure(engine_for: Callable[..., RemoteEngine], model: str) -> None:
    assert isinstance(refused(engine_for(model)), UpstreamFailed)


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


def test_what_cannot_be_sent_is_refused_at_once(engine_for: Callable[..., RemoteEngine], tmp_path: Path) -> None:
    engine = engine_for("good")
    with pytest.raises(RequestTooLong):
        engine.submit(replace(ROWS[0], question="why " * 25_000), Heard())
    with pytest.raises(NotSupported):
        engine.submit(replace(ROWS[0], adapter=AdapterRef("0" * 64, tmp_path)), Heard())


def test_owners_are_kept_apart_in_the_servers_cache(engine_for: Callable[..., RemoteEngine], misbehaving: str) -> None:
    ask(engine_for("good"), [replace(ROWS[0], cache_salt="one tenant")])
    assert httpx.get(f"{misbehaving}/seen").json()["bodies"][-1]["cache_salt"] == "one tenant"
