"""What tests of models share: one thread, and an engine over the module's own model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapters.causal import CausalEngine


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slowed down by a second thread, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def engine(model: Path) -> Iterator[CausalEngine]:
    """A language model's engine over the folder that the module's fixture ``model`` names."""
    engine = CausalEngine(model)
    engine.load()
    yield engine
    engine.close()
