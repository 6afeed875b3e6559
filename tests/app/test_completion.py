"""A language model as a plain function: whole answers, or a reason why there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from adapters import CausalEngine
from app.completion import EngineCompletion
from ingest import CompletionFailed, CompletionTooLong
from tests.adapters.tiny_llama import make_tiny_llama


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CausalEngine]:
    engine = CausalEngine(make_tiny_llama(tmp_path_factory.mktemp("model"), context=2048))
    engine.load()
    yield engine
    engine.close()


def test_an_answer_that_does_not_end_within_its_bound_is_none(engine: CausalEngine) -> None:
    complete = EngineCompletion(engine, "tenant", threading.Event())
    with pytest.raises(CompletionFailed, match="did not end"):
        complete("Divide the sources.", ["One sentence.", "Another one."], 4)
    cut = EngineCompletion(engine, "tenant", threading.Event(), whole=False)
    assert cut("Divide the sources.", ["One sentence.", "Another one."], 4), "who wants its beginning only gets that"


@pytest.mark.parametrize("task", ["Divide the sources.", "divide " * 3000])
def test_more_than_the_model_can_read_is_told_apart(engine: CausalEngine, task: str) -> None:
    complete = EngineCompletion(engine, "tenant", threading.Event())
    with pytest.raises(CompletionTooLong):
        complete(task, ["A sentence of some length about the harbour." * 4] * 40, 4)


def test_a_service_that_stops_waits_for_no_answer(engine: CausalEngine) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(CompletionFailed, match="stops"):
        EngineCompletion(engine, "tenant", stopping)("Divide the sources.", ["One sentence."], 1500)
