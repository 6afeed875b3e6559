"""A row's events in an event loop, from the engine's own threads; leaving them cancels the row.

Knows the seam of engines and asyncio; knows no tenants and no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from adapters import Done, Engine, Event, Failed, Row, Submission


@asynccontextmanager
async def submitted(
    engine: Engine, row: Row, ended: Callable[[], None] | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    """What the engine tells of a row, up to its Done. The row is cancelled when the context is left.

    Args:
        ended: called in this event loop when the engine is done with the row, whether or not that was read.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event] = asyncio.Queue()

    def told(event: Event) -> None:
        events.put_nowait(event)
        if ended is not None and isinstance(event, Done | Failed):
            ended()

    def deliver(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(told, event)

    submitting = asyncio.ensure_future(asyncio.to_thread(engine.submit, row, deliver))
    try:
        submission = await asyncio.shield(submitting)
    except asyncio.CancelledError:  # the thread goes on, and the row must not
        submitting.add_done_callback(_cancel_submitted)
        raise
    try:
        yield _until_done(events)
    finally:
        submission.cancel()


async def _until_done(events: asyncio.Queue[Event]) -> AsyncGenerator[Event]:
    while True:
        event = await events.get()
        if isinstance(event, Failed):
            raise event.error
        yield event
        if isinstance(event, Done):
            return


def _cancel_submitted(submitting: asyncio.Future[Submission]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
