"""The model on Ray Serve, two replicas on this machine: the backend's contract, where adapters lie, and lost replicas.

Run by `make test-ray`; skipped where Ray is not installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters import AdapterRef, Done, Row, Token
from app.model_server import Backend, Began
from app.model_server.ray_cluster import Replicas, ray_backend
from app.settings import Settings
from tests.adapters.tiny_llama import make_lora
from tests.app.model_server.backend_contract import LIMITS, LONG, BackendContract, answered, asked, until

_HERE = importlib.util.find_spec("ray") is not None  # not imported, since it reads how it is to authenticate then
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not _HERE, reason="Ray is not installed: pip install 'lorebase[ray]'"),
]


@pytest.fixture(scope="module")
def backend(model: Path, loop: asyncio.Runner) -> Iterator[Backend]:
    settings = Settings(model=str(model), **LIMITS)
    backend = ray_backend(settings, Replicas(least=2, most=2, processors=0.5))
    yield backend
    loop.run(backend.close())


class TestContract(BackendContract):
    """The suite, over two replicas."""


def test_each_adapter_has_its_replica(loop: asyncio.Runner, backend: Backend, model: Path, tmp_path: Path) -> None:
    adapters = [make_lora(model, tmp_path / str(seed), seed=seed) for seed in range(3, 7)]

    async def ask_around() -> dict[str, Counter[str]]:
        for adapter in adapters:
            await backend.prepare(adapter)
            await asyncio.sleep(1.0)  # until the router has heard of it, and gives the next one to who has fewer
        places: dict[str, Counter[str]] = {adapter.key: Counter() for adapter in adapters}
        for _ in range(6):
            for adapter in adapters:
                places[adapter.key][(await answered(backend, asked(adapter=adapter)))[2]] += 1
        held = {replica.id: replica.resident for replica in await backend.replicas()}
        for key, places_of in places.items():
            assert set(places_of) == {name for name, resident in held.items() if key in resident}
        return places

    places = loop.run(ask_around())
    assert all(len(places_of) == 1 for places_of in places.values()), places
    assert len({replica for places_of in places.values() for replica in places_of}) == 2, places


def test_a_row_whose_replica_is_killed_goes_on_in_another_word_for_word(
    loop: asyncio.Runner, backend: Backend, adapters: Sequence[AdapterRef]
) -> None:
    rows = [asked(max_tokens=LONG), asked(max_tokens=LONG, temperature=1.0, seed=5, adapter=adapters[0])]

    async def kill_under(row: Row) -> None:
        expected, _, _ = await answered(backend, row)
        processes = {each.id: each.process for each in await backend.replicas()}
        text, killed, began = "", False, 0
        async for step in backend.answer(row):
            if isinstance(step, Began):
                began, replica = began + 1, step.replica
            elif isinstance(step, Token):
                text += step.text
                if not killed:
                    killed = True
                    os.kill(processes[replica], signal.SIGKILL)
            elif isinstance(step, Done):
                assert (text, step.answer) == (expected.answer, expected.answer)
        assert (killed, began) == (True, 1)
        await until(lambda: _two(backend))

    for row in rows:
        loop.run(kill_under(row))


async def _two(backend: Backend) -> bool:
    return len(await backend.replicas()) == 2
