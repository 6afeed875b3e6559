"""The walk of one question, where its pieces meet: whoever leaves early takes the row along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any, cast

from adapters import DEFAULT_TEMPLATE, Deliver, Done, Engine, Row
from app.answering import answer
from app.schemas import AskRequest
from app.templates import BUILTIN, StoredTemplate
from app.turns import Turns
from app.workspace import Workspace


class SlowToSubmit:
    """An engine whose `submit` takes its time, as one that loads an adapter does."""

    generates = False

    def __init__(self) -> None:
        self.entered, self.go_on, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    def submit(self, row: Row, deliver: Deliver) -> Any:
        self.entered.set()
        assert self.go_on.wait(30)
        return self

    def cancel(self) -> None:
        self.cancelled.set()


class Tenant:
    """Of a workspace, what a question over given passages needs."""

    tenant_id = "t"
    english_only = False


class DoneAtOnce:
    """An engine that has answered before anybody listens."""

    generates = False

    def submit(self, row: Row, deliver: Deliver) -> Any:
        deliver(Done("", True, 0.0, (), 1, 0))
        return self

    def cancel(self) -> None:
        pass


def asked(engine: object, turns: Turns | None = None) -> AsyncGenerator[object]:
    request = AskRequest.model_validate({"question": "When?", "passages": [{"text": "Never."}]})
    template = StoredTemplate(BUILTIN, 0, DEFAULT_TEMPLATE, 0.0)
    return answer(cast(Workspace, Tenant()), cast(Engine, engine), None, template, request, "an-id", turns=turns)


async def leave_while_submitting(engine: SlowToSubmit) -> None:
    steps = asked(engine)
    waiting = asyncio.ensure_future(anext(steps))
    await asyncio.to_thread(engine.entered.wait, 30)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    engine.go_on.set()
    assert await asyncio.to_thread(engine.cancelled.wait, 30)


def test_a_row_that_is_submitted_while_its_client_leaves_is_cancelled() -> None:
    asyncio.run(leave_while_submitting(SlowToSubmit()))


def test_whoever_reads_an_answer_slowly_keeps_nobody_from_having_a_turn() -> None:
    async def run() -> None:
        turns = Turns(1)
        steps = asked(DoneAtOnce(), turns)
        await anext(steps)  # and nothing more is read
        (await asyncio.wait_for(turns.begin("another"), 30)).end()
        await steps.aclose()
        (await asyncio.wait_for(turns.begin("a third"), 30)).end()

    asyncio.run(run())
