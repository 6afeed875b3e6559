"""What every engine must do, whatever model is behind it.

Subclass `EngineContract` and give it three fixtures:

- ``engine``: loaded and fresh for each test (one test closes it); the subclass closes it afterwards.
- ``adapters``: two AdapterRef that fit the engine's base and change its answers or their confidence.
- ``rows``: three or more Row on the base model, with passages, that the engine can answer.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.engine import AdapterRef, Done, Engine, Event, Failed, Row, Token
from adapters.errors import AdapterError, InvalidAdapter, ModelUnavailable

PATIENCE_S = 60.0


class Heard:
    """Receives one row's events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ended = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Done | Failed):
            self._ended.set()

    def end(self) -> Done | Failed:
        """Wait for the last event."""
        assert self._ended.wait(PATIENCE_S), "the row never ended"
        last = self.events[-1]
        assert isinstance(last, Done | Failed)
        return last

    def done(self) -> Done:
        """Wait for the last event, which must be Done."""
        last = self.end()
        assert isinstance(last, Done), last
        return last

    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Token))


def ask(engine: Engine, rows: Sequence[Row]) -> list[Done]:
    """Submit rows at once and wait for all."""
    heard = [Heard() for _ in rows]
    for row, deliver in zip(rows, heard, strict=True):
        engine.submit(row, deliver)
    return [h.done() for h in heard]


def refusal(engine: Engine, row: Row) -> Exception:
    """Why the engine does not answer a row, whether it says so at once or later."""
    heard = Heard()
    try:
        engine.submit(row, heard)
    except AdapterError as error:
        return error
    end = heard.end()
    assert isinstance(end, Failed), end
    return end.error


@contextmanager
def held(engine: Engine, row: Row) -> Iterator[None]:
    """Hold the engine's thread in the first event of ``row``, so that what is submitted meanwhile must wait."""
    reached, go_on, heard = threading.Event(), threading.Event(), Heard()

    def deliver(event: Event) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)
        heard(event)

    engine.submit(row, deliver)
    assert reached.wait(PATIENCE_S)
    try:
        yield
    finally:
        go_on.set()
        heard.end()


def same(one: Done, other: Done) -> bool:
    """Equal but for rounding in the confidence."""
    places = [[(s.passage, s.start, s.end) for s in done.spans] for done in (one, other)]
    return (
        (one.answer, one.abstained, one.finish_reason) == (other.answer, other.abstained, other.finish_reason)
        and places[0] == places[1]
        and one.confidence == pytest.approx(other.confidence, abs=1e-3)
    )


class EngineContract:
    """The suite. See the module's text for the fixtures."""

    def test_has_a_name_and_a_fingerprint(self, engine: Engine) -> None:
        assert engine.name
        assert len(engine.fingerprint) == 64

    def test_a_row_ends_exactly_once(self, engine: Engine, rows: Sequence[Row]) -> None:
        heard = [Heard() for _ in rows]
        for row, deliver in zip(rows, heard, strict=True):
            engine.submit(row, deliver)
        for h in heard:
            h.done()
        ask(engine, rows[:1])  # anything delivered late has arrived by now
        for h in heard:
            assert [isinstance(e, Done | Failed) for e in h.events].count(True) == 1
            assert isinstance(h.events[-1], Done | Failed)

    def test_tokens_joined_are_the_answer(self, engine: Engine, rows: Sequence[Row]) -> None:
        heard = [Heard() for _ in rows]
        for row, deliver in zip(rows, heard, strict=True):
            engine.submit(replace(row, min_confidence=0.0), deliver)
        answered = [h for h in heard if not h.done().abstained]
        assert answered, "give the contract rows that the engine answers"
        for h in answered:
            assert h.text() == h.done().answer

    def test_spans_lie_within_their_passages(self, engine: Engine, rows: Sequence[Row]) -> None:
        for row, done in zip(rows, ask(engine, rows), strict=True):
            assert 0.0 <= done.confidence <= 1.0
            for span in done.spans:
                assert 0 <= span.start <= span.end <= len(row.passages[span.passage].text)

    def test_without_passages_it_abstains(self, engine: Engine, rows: Sequence[Row]) -> None:
        (done,) = ask(engine, [replace(rows[0], passages=())])
        assert (done.answer, done.abstained, done.spans) == ("", True, ())

    def test_above_any_confidence_it_abstains(self, engine: Engine, rows: Sequence[Row]) -> None:
        (done,) = ask(engine, [replace(rows[0], min_confidence=1.1)])
        assert (done.answer, done.abstained, done.spans) == ("", True, ())

    def test_cancel_stops_delivery(self, engine: Engine, rows: Sequence[Row]) -> None:
        reached, go_on, events = threading.Event(), threading.Event(), []

        def deliver(event: Event) -> None:
            events.append(event)
            reached.set()
            go_on.wait(PATIENCE_S)

        submission = engine.submit(rows[0], deliver)
        assert reached.wait(PATIENCE_S)
        cancelling = threading.Thread(target=submission.cancel)
        cancelling.start()
        go_on.set()
        cancelling.join(PATIENCE_S)
        told = len(events)
        ask(engine, rows[:1])
        assert len(events) == told

    def test_a_cancelled_waiting_row_hears_nothing(self, engine: Engine, rows: Sequence[Row]) -> None:
        heard = Heard()
        with held(engine, rows[0]):
            submission = engine.submit(rows[1], heard)
            submission.cancel()
            submission.cancel()
        ask(engine, rows[:1])
        assert heard.events == []

    def test_a_mixed_batch_gives_each_row_what_it_gets_alone(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef]
    ) -> None:
        mixed = [replace(row, adapter=adapter) for row in rows for adapter in (None, *adapters)]
        alone = [ask(engine, [row])[0] for row in mixed]
        heard = [Heard() for _ in mixed]
        with held(engine, rows[0]):
            for row, deliver in zip(mixed, heard, strict=True):
                engine.submit(row, deliver)
        for h, expected in zip(heard, alone, strict=True):
            assert same(h.done(), expected)

    def test_adapters_change_answers_and_leave_the_base_alone(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef]
    ) -> None:
        before = ask(engine, rows)
        for adapter in adapters:
            engine.prepare(adapter)
        memory = engine.adapter_memory()
        assert set(memory.resident) == {a.key for a in adapters}
        assert all(held_bytes > 0 for held_bytes in memory.resident.values())
        assert memory.loads == len(adapters)
        by_adapter = [ask(engine, [replace(row, adapter=a) for row in rows]) for a in adapters]
        assert all(same(a, b) for a, b in zip(before, ask(engine, rows), strict=True))
        for one, other in [(before, by_adapter[0]), (before, by_adapter[1]), (by_adapter[0], by_adapter[1])]:
            assert any(
                a.answer != b.answer or abs(a.confidence - b.confidence) > 1e-4 for a, b in zip(one, other, strict=True)
            )

    def test_a_prefetched_adapter_is_there_when_a_row_asks_for_it(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef]
    ) -> None:
        engine.prefetch(adapters[0], "anyone")
        end = time.monotonic() + PATIENCE_S
        while adapters[0].key not in engine.adapter_memory().resident:
            assert time.monotonic() < end
            time.sleep(0.005)
        ask(engine, [replace(rows[0], adapter=adapters[0])])
        memory = engine.adapter_memory()
        assert (memory.loads, memory.hits) == (1, 1)

    def test_a_pinned_adapter_is_resident_until_it_is_unloaded(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef]
    ) -> None:
        engine.pin(adapters[0])
        assert engine.adapter_memory().pinned == {adapters[0].key}
        engine.prepare(adapters[0])
        engine.unpin(adapters[0])
        engine.unpin(adapters[0])
        assert engine.adapter_memory().pinned == frozenset()
        engine.pin(adapters[0])
        engine.unload(adapters[0])
        memory = engine.adapter_memory()
        assert (memory.pinned, dict(memory.resident)) == (frozenset(), {})

    def test_check_accepts_what_fits(self, engine: Engine, adapters: Sequence[AdapterRef]) -> None:
        for adapter in adapters:
            facts = engine.check(adapter.folder)
            assert facts.sha256 == adapter.sha256
            assert facts.rank >= 1
            assert facts.targets

    def test_a_missing_or_damaged_adapter_is_refused(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef], tmp_path: Path
    ) -> None:
        good = adapters[0]
        cut = tmp_path / "cut"
        shutil.copytree(good.folder, cut)
        weights = cut / ADAPTER_WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-64])
        for bad in (
            AdapterRef(good.sha256, tmp_path / "nowhere"),
            AdapterRef(good.sha256, cut),
            AdapterRef("0" * 64, good.folder),
        ):
            with pytest.raises(InvalidAdapter):
                engine.prepare(bad)
            assert isinstance(refusal(engine, replace(rows[0], adapter=bad)), InvalidAdapter)
            engine.prefetch(bad)
        with pytest.raises(InvalidAdapter):
            engine.check(cut)
        with pytest.raises(InvalidAdapter):
            engine.check(tmp_path / "nowhere")
        engine.prepare(good)
        ask(engine, [replace(rows[0], adapter=good)])

    def test_many_threads_may_submit_at_once(
        self, engine: Engine, rows: Sequence[Row], adapters: Sequence[AdapterRef]
    ) -> None:
        jobs = [replace(rows[i % len(rows)], adapter=(None, *adapters)[i % 3], share_key=str(i % 2)) for i in range(12)]
        heard = [Heard() for _ in jobs]
        start = threading.Barrier(len(jobs))

        def submit(row: Row, deliver: Heard) -> None:
            start.wait(PATIENCE_S)
            engine.submit(row, deliver)

        threads = [threading.Thread(target=submit, args=pair) for pair in zip(jobs, heard, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        for h in heard:
            h.done()

    def test_a_receiver_that_raises_harms_no_other_row(self, engine: Engine, rows: Sequence[Row]) -> None:
        def deliver(event: Event) -> None:
            raise RuntimeError("the receiver is broken")

        other = Heard()
        with held(engine, rows[0]):
            engine.submit(rows[1], deliver)
            engine.submit(rows[2], other)
        other.done()
        ask(engine, rows[:1])

    def test_close_fails_what_waits_and_is_idempotent(self, engine: Engine, rows: Sequence[Row]) -> None:
        heard = [Heard() for _ in rows]
        closing = threading.Thread(target=engine.close)
        with held(engine, rows[0]):
            for row, deliver in zip(rows, heard, strict=True):
                engine.submit(row, deliver)
            closing.start()
            _until_refused(engine, rows[0])
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        for h in heard:
            end = h.end()
            assert isinstance(end, Failed)
            assert isinstance(end.error, AdapterError)
        engine.close()
        with pytest.raises(ModelUnavailable):
            engine.submit(rows[0], Heard())


def _until_refused(engine: Engine, row: Row) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            engine.submit(row, Heard())
        except ModelUnavailable:
            return
        time.sleep(0.01)
    raise AssertionError("the engine takes rows although it is closing")
