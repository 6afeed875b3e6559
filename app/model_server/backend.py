"""What the model server's API stands on: rows in, events out, adapters brought to where rows run.

The seam `Backend`, and the engine of this process behind it. Knows engines; knows no HTTP and no names of adapters.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters import AdapterRef, CausalEngine, Event, Row
from app.row_events import submitted

HERE = "here"


@dataclass(frozen=True, slots=True)
class Began:
    """A row has reached the replica that works on it."""

    replica: str


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of the model, as it is at this moment.

    Attributes:
        host, process: where it runs.
        waiting, running: rows.
        resident: adapters in its memory, by `AdapterRef.key`.
    """

    id: str
    host: str
    process: int
    waiting: int
    running: int
    resident: frozenset[str]


Step = Began | Event


class Backend(Protocol):
    """Where rows are answered. Every method but the properties runs in one event loop."""

    @property
    def model(self) -> str:
        """The base model as people call it."""

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""

    def failure(self) -> str | None:
        """Why no row can be answered now, in words; None while they can."""

    async def prepare(self, adapter: AdapterRef) -> None:
        """Bring an adapter to where rows run. Raises InvalidAdapter, UpstreamUnavailable."""

    async def unload(self, adapter: AdapterRef) -> None:
        """Let go of an adapter everywhere. A row on it brings it back."""

    def answer(self, row: Row) -> AsyncGenerator[Step]:
        """Began, the row's events, and Done. Closing it, or cancelling who waits for it, cancels the row.

        Raises:
            AdapterError: the row cannot be answered; QueueFull and UpstreamUnavailable pass.
        """

    async def replicas(self) -> Sequence[Replica]:
        """The copies of the model, and what each holds."""

    async def close(self) -> None:
        """Let go of all. Idempotent."""


class EngineBackend:
    """The engine of this process, which is loaded, as a Backend."""

    def __init__(self, engine: CausalEngine) -> None:
        self._engine = engine

    @property
    def model(self) -> str:
        return self._engine.name

    @property
    def context(self) -> int:
        return self._engine.context

    def failure(self) -> str | None:
        return self._engine.failure

    async def prepare(self, adapter: AdapterRef) -> None:
        await asyncio.to_thread(self._engine.prepare, adapter)

    async def unload(self, adapter: AdapterRef) -> None:
        await asyncio.to_thread(self._engine.unload, adapter)

    async def answer(self, row: Row) -> AsyncGenerator[Step]:
        async with submitted(self._engine, row) as events:
            yield Began(HERE)
            async for event in events:
                yield event

    async def replicas(self) -> Sequence[Replica]:
        return [self.replica(HERE)]

    def replica(self, name: str) -> Replica:
        """How the engine is at this moment, under a name."""
        status, resident = self._engine.status(), self._engine.adapter_memory().resident
        return Replica(name, socket.gethostname(), os.getpid(), status.waiting, status.running, frozenset(resident))

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)
