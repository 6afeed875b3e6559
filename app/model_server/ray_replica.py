"""One replica of the model on Ray Serve: the engine, in a process that Ray starts, watches and replaces.

Ray's multiplexing is what sends rows on an adapter to the replicas that have answered on it before; what stays in
memory there is the engine's to say, by bytes. Knows Ray Serve and the engine; knows no HTTP and no names of adapters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray import serve

from adapters import AdapterRef, Failed, Row
from adapters.errors import AdapterError
from app.engines import causal_engine_of
from app.logs import configure_logs
from app.model_server.backend import Began, EngineBackend, Replica, Step
from app.settings import Settings

_MOST_REMEMBERED = 4096  # adapters that one replica is known for


class ModelReplica:
    """The engine behind Ray Serve.

    Args:
        settings: fields of `Settings` that the engine is made from.
        made_from: what all of this application is made from, in one text.
    """

    def __init__(self, settings: dict[str, Any], made_from: str) -> None:
        self._made_from = made_from
        made = Settings(**settings)
        configure_logs(made.log_format, made.log_level)
        engine = causal_engine_of(made)
        engine.load()
        self._backend = EngineBackend(engine)
        self._id = str(serve.get_replica_context().replica_id.unique_id)

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica whose engine has stopped."""
        if (reason := self._backend.failure()) is not None:
            raise RuntimeError(reason)

    async def made_from(self) -> str:
        """What the application is made from: whoever would make the same need not."""
        return self._made_from

    async def described(self) -> tuple[str, int]:
        """The model's name, and how many tokens prompt and answer may have together."""
        return self._backend.model, self._backend.context

    async def prepare(self, adapter: AdapterRef) -> AdapterError | None:
        """Bring an adapter into memory; why it is refused, if it is."""
        try:
            await self._backend.prepare(adapter)
        except AdapterError as error:
            return error
        await self._known_for(adapter.key)
        return None

    async def unload(self, adapter: AdapterRef) -> None:
        """Let go of an adapter."""
        await self._backend.unload(adapter)

    async def replica(self) -> Replica:
        """How this one is at this moment."""
        return self._backend.replica(self._id)

    async def answer(self, row: Row) -> AsyncGenerator[Step]:
        """Began, the row's events, and Done or Failed."""
        yield Began(self._id)
        try:
            if row.adapter is not None:
                await self._known_for(row.adapter.key)
            async with aclosing(self._backend.answer(row)) as steps:
                async for step in steps:
                    if not isinstance(step, Began):
                        yield step
        except AdapterError as error:
            yield Failed(error)

    async def close(self) -> None:
        """Finish what is under way."""
        await self._backend.close()

    @serve.multiplexed(max_num_models_per_replica=_MOST_REMEMBERED)  # type: ignore[untyped-decorator]
    async def _known_for(self, key: str) -> str:
        """Tell Ray Serve that this replica is the one for an adapter."""
        await asyncio.sleep(0)
        return key
