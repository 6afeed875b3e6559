"""The model on Ray Serve as a `Backend`: rows go to replicas, and a row whose replica is lost goes on in another one.

A row draws the same tokens wherever it is answered, so what it has told already is passed over when it is answered
again. Knows Ray Serve's handles and their errors; knows no HTTP and no engine.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from adapters import AdapterRef, Done, Failed, Row, Token
from adapters.errors import QueueFull, UpstreamFailed, UpstreamUnavailable
from app.model_server.backend import Began, Replica, Step

_log = logging.getLogger(__name__)
_ATTEMPTS = 3
_RETRY_SECONDS = 2.0
_HEARD_SECONDS = 1.0  # until Ray's router knows which replica has an adapter; rows that come before go to any
_LOST = "The replica that answered was lost"


class _ReplicaLost(Exception):
    """A replica ended while it worked on a row, or none is there to take it."""


class RayBackend:
    """Rows on the replicas behind a handle.

    Args:
        described: the model's name, and how many tokens prompt and answer may have together.
        begin_seconds: longest time until a replica takes a row; while none is there, rows wait for one.
        local: Ray runs for this process alone, and ends with it.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], described: tuple[str, int], *, begin_seconds: float = 30.0, local: bool
    ) -> None:
        self._handle = handle
        self._model, self._context = described
        self._begin_seconds, self._local = begin_seconds, local
        self._closed = False

    @property
    def model(self) -> str:
        return self._model

    @property
    def context(self) -> int:
        return self._context

    def failure(self) -> str | None:
        """While no replica is there rows wait for one, so only an end of Ray itself is a reason."""
        import ray

        return None if ray.is_initialized() and not self._closed else "Ray has stopped; restart the model server."

    async def prepare(self, adapter: AdapterRef) -> None:
        handle = self._handle.options(multiplexed_model_id=adapter.key)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with asyncio.timeout(self._begin_seconds):
                    refused = await handle.prepare.remote(adapter)
            except (RayError, RayServeException, TimeoutError) as error:
                lost = _meaning(error)
                if not isinstance(lost, _ReplicaLost) or attempt == _ATTEMPTS:
                    raise _told(lost) from error
            else:
                if refused is not None:
                    raise refused
                await asyncio.sleep(_HEARD_SECONDS)
                return

    async def unload(self, adapter: AdapterRef) -> None:
        await self._everywhere("unload", adapter)

    async def replicas(self) -> Sequence[Replica]:
        found: list[Replica] = await self._everywhere("replica")
        return sorted(found, key=lambda replica: replica.id)

    async def answer(self, row: Row) -> AsyncGenerator[Step]:
        if row.temperature and row.seed is None:
            row = replace(row, seed=random.getrandbits(62))  # so that another replica would draw the same
        told: str | None = None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with aclosing(self._attempt(row)) as steps:
                    async for step in _beyond(steps, told):
                        if isinstance(step, Began):
                            told = told or ""
                        elif isinstance(step, Token):
                            told = (told or "") + step.text
                        yield step
            except _ReplicaLost as lost:
                _log.warning("a row's replica was lost (attempt %d): %s", attempt, lost)
                if attempt == _ATTEMPTS:
                    raise _told(lost) from lost
            else:
                return

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._local:
            import ray

            await asyncio.to_thread(serve.shutdown)
            await asyncio.to_thread(ray.shutdown)

    async def _attempt(self, row: Row) -> AsyncGenerator[Step]:
        """A row on one replica. Raises _ReplicaLost, AdapterError."""
        options: dict[str, Any] = {"multiplexed_model_id": row.adapter.key} if row.adapter is not None else {}
        steps = self._handle.options(stream=True, **options).answer.remote(row)
        ended = False
        try:
            async with asyncio.timeout(self._begin_seconds):
                step = await anext(steps)
            while not ended:
                ended = isinstance(step, Done | Failed)
                if isinstance(step, Failed):
                    raise step.error
                yield step
                if not ended:
                    step = await anext(steps)
        except (RayError, RayServeException, TimeoutError) as error:
            ended = not isinstance(error, TimeoutError)  # there is nothing left to be cancelled
            raise _meaning(error) from error
        except StopAsyncIteration as error:
            ended = True
            raise _ReplicaLost("it ended without an answer") from error
        finally:
            if not ended:
                steps.cancel()

    async def _everywhere(self, method: str, *arguments: Any) -> list[Any]:
        """What each replica answers to a call; one that is lost has nothing to say."""
        asked = self._handle.broadcast(method, *arguments)
        try:
            results = await asked.results_async(timeout_s=self._begin_seconds, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError) as error:
            raise _told(_meaning(error)) from error
        return [result for result in results if not isinstance(result, Exception)]


async def _beyond(steps: AsyncGenerator[Step], told: str | None) -> AsyncGenerator[Step]:
    """The steps without those that were told already; ``told`` is the text of these, None when nothing was.

    Raises:
        UpstreamFailed: the text is another one.
    """
    left = told or ""
    async for step in steps:
        if isinstance(step, Began) and told is not None:
            continue
        if isinstance(step, Token) and left:
            if not left.startswith(step.text):
                raise UpstreamFailed(f"{_LOST}, and another one answers in other words; ask again.")
            left = left[len(step.text) :]
            continue
        yield step


def _meaning(error: Exception) -> Exception:
    """What an error of Ray's means for a row."""
    if isinstance(error, BackPressureError):
        return QueueFull("All replicas are busy, and as many rows wait as may; try again in a moment.", _RETRY_SECONDS)
    if isinstance(error, RayActorError | RayServeException):
        return _ReplicaLost(_first_line(error))
    if isinstance(error, TimeoutError):
        return UpstreamUnavailable("No replica of the model took this in time; try again in a moment.")
    _log.error("a replica failed", exc_info=error)
    return UpstreamFailed(f"A replica of the model failed ({type(error).__name__}); ask again.")


def _told(error: Exception) -> Exception:
    """What whoever asked is told."""
    if isinstance(error, _ReplicaLost):
        return UpstreamUnavailable(f"{_LOST}, and no other one took its place in time; try again in a moment.")
    return error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
