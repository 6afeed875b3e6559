"""One adapter merged into the base weights, W + ΔW, and taken out again bit for bit.

The base's tensors are kept and put back, not computed back: (W + Δ) − Δ is not W in floating point. Knows layers and
factors; knows no rows. Used by one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapters.lora_stack import LoadedLora
from adapters.row_changes import unwrapped


class Streak:
    """How many rows in a row came on one adapter.

    Attributes:
        rows: that number; 0 when the last row was on the base.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._key: str | None = None

    def note(self, adapter: LoadedLora | None) -> None:
        """Count one row more."""
        key = adapter.key if adapter is not None else None
        self.rows = 0 if key is None else self.rows + 1 if key == self._key else 1
        self._key = key


class MergedWeights:
    """What is merged into a model.

    Attributes:
        key: the `AdapterRef.key` of the merged adapter; None while the base's own weights are in place.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: dict[str, torch.Tensor] = {}
        self.key: str | None = None

    def may(self, adapter: LoadedLora) -> bool:
        """Whether an adapter is nothing but products beside whole weights that no other layer shares."""
        if adapter.changes or adapter.prompts or adapter.virtual is not None or adapter.saved or adapter.whole:
            return False
        shared: Any = self._model.get_input_embeddings().weight  # type: ignore[operator]
        layers = [unwrapped(self._model.get_submodule(path)) for path in adapter.factors]
        return all(type(layer) in (nn.Linear, Conv1D) and layer.weight is not shared for layer in layers)

    def merge_what_all_are_on(self, adapters: Sequence[LoadedLora | None]) -> None:
        """Merge the adapter of a batch, if all its rows are on one that may be, and it is not merged already."""
        first = adapters[0] if adapters else None
        if first is None or first.key == self.key or any(a is None or a.key != first.key for a in adapters):
            return
        if self.may(first):
            self.merge(first)

    def merge(self, adapter: LoadedLora) -> None:
        """Put W + ΔW in place, rounded to the base's number format; takes the targeted layers' memory once more."""
        self.restore()
        merged: dict[str, torch.Tensor] = {}
        for path, (a, b) in adapter.factors.items():  # [d_in, r], [r, d_out]
            layer: Any = unwrapped(self._model.get_submodule(path))
            weight = layer.weight.data
            delta = a.float() @ b.float()  # [d_in, d_out]
            merged[path] = (weight.float() + (delta if isinstance(layer, Conv1D) else delta.t())).to(weight.dtype)
        for path, weight in merged.items():
            layer = unwrapped(self._model.get_submodule(path))
            self._kept[path], layer.weight.data = layer.weight.data, weight
        self.key = adapter.key

    def restore(self) -> None:
        """Put the base's own weights back."""
        for path, weight in self._kept.items():
            layer: Any = unwrapped(self._model.get_submodule(path))
            layer.weight.data = weight
        self._kept.clear()
        self.key = None
