"""The walk of one question, where its pieces meet: whoever leaves early takes the row along."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

from adapters import DEFAULT_TEMPLATE, Deliver, Engine, Row
from app.answering import answer
from app.schemas import AskRequest
from app.templates import BUILTIN, StoredTemplate
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


async def leave_while_submitting(engine: SlowToSubmit) -> None:
    request = AskRequest.model_validate({"question": "When?", "passages": [{"text": "Never."}]})
    template = StoredTemplate(BUILTIN, 0, DEFAULT_TEMPLATE, 0.0)
    steps = answer(cast(Workspace, Tenant()), cast(Engine, engine), None, template, request, "an-id")
    await anext(steps)
    waiting = asyncio.ensure_future(anext(steps))
    await asyncio.to_thread(engine.entered.wait, 30)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    engine.go_on.set()
    assert await asyncio.to_thread(engine.cancelled.wait, 30)


def test_a_row_that_is_submitted_while_its_client_leaves_is_cancelled() -> None:
    asyncio.run(leave_while_submitting(SlowToSubmit()))
