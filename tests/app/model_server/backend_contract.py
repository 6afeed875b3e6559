"""What every backend of the model server must do, wherever its rows run.

Subclass `BackendContract` and give it three fixtures:

- ``loop``: an `asyncio.Runner` in whose loop the backend lives.
- ``backend``: over an endless model (`MODEL`), with `LIMITS`, that has seen no adapter of the test.
- ``adapters``: two AdapterRef that fit the model and change its answers.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters import ADAPTER_WEIGHTS, AdapterRef, ChatMessage, Done, Row, Token
from adapters.errors import InvalidAdapter, QueueFull, RequestTooLong
from app.model_server import Backend, Began

PATIENCE_S = 60.0
LIMITS = {"dtype": "float32", "max_batch": 4, "max_waiting": 8}
"""Of the engine behind the backend, or of each."""
MODEL: dict[str, Any] = {"context": 1024, "endless": True}
"""How `make_tiny_llama` makes the model."""
LONG = 600


def asked(text: str = "What was revenue?", **fields: Any) -> Row:
    fields = {"max_tokens": 8, "cache_salt": "a", "share_key": "a", **fields}
    return Row("", (), grounded=False, chat=(ChatMessage("user", text),), **fields)


async def answered(backend: Backend, row: Row) -> tuple[Done, list[Token], str]:
    """How a row ends, its pieces, and where it was worked on."""
    pieces, replica = [], ""
    async with aclosing(backend.answer(row)) as steps:
        async for step in steps:
            if isinstance(step, Began):
                assert (replica, pieces) == ("", [])
                replica = step.replica
            elif isinstance(step, Token):
                pieces.append(step)
            elif isinstance(step, Done):
                assert [step async for step in steps] == []
                return step, pieces, replica
    raise AssertionError("the row never ended")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def at_work(backend: Backend) -> int:
    return sum(replica.waiting + replica.running for replica in await backend.replicas())


async def resident(backend: Backend, adapter: AdapterRef) -> bool:
    return any(adapter.key in replica.resident for replica in await backend.replicas())


class BackendContract:
    """The suite. See the module's text for the fixtures."""

    def test_it_says_what_it_serves(self, backend: Backend) -> None:
        assert backend.model
        assert backend.context == MODEL["context"]
        assert backend.failure() is None

    def test_a_row_is_told_as_it_grows_with_a_probability_for_every_token(
        self, loop: asyncio.Runner, backend: Backend
    ) -> None:
        done, pieces, replica = loop.run(answered(backend, asked()))
        assert "".join(piece.text for piece in pieces) == done.answer != ""
        scores = [score for piece in pieces for score in piece.log_probabilities]
        assert len(scores) == done.completion_tokens == 8
        assert all(score <= 0 for score in scores)
        assert done.finish_reason == "length"
        assert replica in {each.id for each in loop.run(backend.replicas())}

    def test_rows_on_different_adapters_at_once_get_what_each_gets_alone(
        self, loop: asyncio.Runner, backend: Backend, adapters: Sequence[AdapterRef]
    ) -> None:
        rows = [asked(adapter=adapter) for adapter in (None, *adapters)]

        async def both() -> tuple[list[str], list[str]]:
            for adapter in adapters:
                await backend.prepare(adapter)
            alone = [(await answered(backend, row))[0].answer for row in rows]
            together = await asyncio.gather(*(answered(backend, row) for row in rows))
            return alone, [done.answer for done, _, _ in together]

        alone, together = loop.run(both())
        assert together == alone
        assert len(set(alone)) == 3

    def test_a_seed_draws_the_same_tokens_again(self, loop: asyncio.Runner, backend: Backend) -> None:
        rows = [asked(temperature=1.0, seed=seed) for seed in (1, 1, 2)]
        first, again, other = [loop.run(answered(backend, row))[0].answer for row in rows]
        assert first == again != other

    def test_an_adapter_that_is_damaged_or_absent_is_refused(
        self, loop: asyncio.Runner, backend: Backend, adapters: Sequence[AdapterRef], tmp_path: Path
    ) -> None:
        cut = tmp_path / "cut"
        shutil.copytree(adapters[0].folder, cut)
        weights = cut / ADAPTER_WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-64])
        for bad in (AdapterRef(adapters[0].sha256, cut), AdapterRef("0" * 64, tmp_path / "nowhere")):
            with pytest.raises(InvalidAdapter) as refused:
                loop.run(backend.prepare(bad))
            assert refused.value.reason == "format"
            with pytest.raises(InvalidAdapter):
                loop.run(answered(backend, asked(adapter=bad)))
        loop.run(answered(backend, asked()))

    def test_an_unloaded_adapter_is_nowhere_until_a_row_asks_for_it(
        self, loop: asyncio.Runner, backend: Backend, adapters: Sequence[AdapterRef]
    ) -> None:
        adapter = adapters[0]

        async def there_and_away() -> None:
            await backend.prepare(adapter)
            assert await resident(backend, adapter)
            await backend.unload(adapter)
            await backend.unload(adapter)
            assert not await resident(backend, adapter)
            await answered(backend, asked(adapter=adapter))
            assert await resident(backend, adapter)

        loop.run(there_and_away())

    def test_a_prompt_that_does_not_fit_is_refused(self, loop: asyncio.Runner, backend: Backend) -> None:
        with pytest.raises(RequestTooLong, match="holds 1024"):
            loop.run(answered(backend, asked("why " * 2000)))

    @pytest.mark.parametrize("closing", [True, False], ids=["closed", "cancelled"])
    def test_leaving_a_row_frees_its_place(self, loop: asyncio.Runner, backend: Backend, closing: bool) -> None:
        async def leave() -> None:
            steps = backend.answer(asked(max_tokens=LONG))
            while not isinstance(await anext(steps), Token):
                pass
            assert await at_work(backend) == 1
            if closing:
                await steps.aclose()
            else:
                reading = asyncio.ensure_future(_read(steps))
                await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait([reading])
            await until(lambda: _idle(backend))

        loop.run(leave())

    def test_more_rows_than_may_wait_are_refused_and_the_others_answered(
        self, loop: asyncio.Runner, backend: Backend
    ) -> None:
        async def many() -> list[Any]:
            rows = [asked(max_tokens=64, share_key=uuid.uuid4().hex) for _ in range(60)]
            return await asyncio.gather(*(answered(backend, row) for row in rows), return_exceptions=True)

        ends = loop.run(many())
        refused = [end for end in ends if isinstance(end, QueueFull)]
        done = [end for end in ends if not isinstance(end, Exception)]
        assert len(refused) + len(done) == len(ends), ends
        assert len(refused) >= 1
        assert len(done) >= LIMITS["max_batch"]
        assert len({end[0].answer for end in done}) == 1
        loop.run(answered(backend, replace(asked(), share_key="after")))


async def _read(steps: Any) -> None:
    async for _ in steps:
        pass


async def _idle(backend: Backend) -> bool:
    return await at_work(backend) == 0
