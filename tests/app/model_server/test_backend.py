"""The backend's contract, with the engine of this process behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapters import CausalEngine
from app.model_server import EngineBackend
from tests.app.model_server.backend_contract import LIMITS, BackendContract

torch.set_num_threads(1)


class TestContract(BackendContract):
    """The suite, in one process."""

    @pytest.fixture
    def backend(self, model: Path, loop: asyncio.Runner) -> Iterator[EngineBackend]:
        engine = CausalEngine(model, **LIMITS)  # type: ignore[arg-type]
        engine.load()
        backend = EngineBackend(engine)
        yield backend
        loop.run(backend.close())
