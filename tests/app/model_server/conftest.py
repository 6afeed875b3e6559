"""A tiny endless model with two adapters, and the loop that a backend lives in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters import AdapterRef
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.app.model_server.backend_contract import MODEL


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"), **MODEL)


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[AdapterRef]:
    folder = tmp_path_factory.mktemp("adapters")
    return [make_lora(model, folder / "a", seed=1), make_lora(model, folder / "b", seed=2, rank=8)]
