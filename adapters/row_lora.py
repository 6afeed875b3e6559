"""LoRA per row of a batch: each row of one forward pass on its own adapter.

Rows of a batch are ordered so that rows on one adapter stand together; each linear layer then adds x·Aᵀ·Bᵀ to the
slice of rows that adapter owns, so a mixed batch reads the base weights once and copies no adapter (the segmented
form of Punica's SGMV, Chen et al. 2023). Knows tensors; knows no files, requests or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from adapters.validation import LoraFiles


@dataclass(frozen=True, eq=False)
class LoadedLora:
    """An adapter in memory.

    Attributes:
        key: the `AdapterRef.key` it was loaded under.
        factors: by module path, Aᵀ [d_in, r] and scaling·Bᵀ [r, d_out].
        saved: tensors that replace the base's whole, such as the QA head.
        bytes: memory held by all of them.
    """

    key: str
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    saved: Mapping[str, torch.Tensor]
    bytes: int


def load_lora(files: LoraFiles, key: str, dtype: torch.dtype) -> LoadedLora:
    """Bring an adapter's tensors into the form the layers multiply with."""
    factors = {
        module: (a.t().contiguous().to(dtype), (b * files.scaling).t().contiguous().to(dtype))
        for module, (a, b) in files.factors.items()
    }
    saved = {name: tensor.to(dtype) for name, tensor in files.saved.items()}
    tensors = [t for pair in factors.values() for t in pair] + list(saved.values())
    return LoadedLora(key, factors, saved, sum(t.numel() * t.element_size() for t in tensors))


@dataclass(frozen=True)
class Segment:
    """Rows ``begin`` to ``end`` (half-open) of a batch are on ``adapter``."""

    adapter: LoadedLora
    begin: int
    end: int


def segments_of(adapters: Sequence[LoadedLora | None]) -> list[Segment]:
    """The runs of equal adapters in a batch's rows; rows on the base belong to no segment."""
    segments: list[Segment] = []
    begin = 0
    for i in range(1, len(adapters) + 1):
        if i == len(adapters) or adapters[i] is not adapters[begin]:
            adapter = adapters[begin]
            if adapter is not None:
                segments.append(Segment(adapter, begin, i))
            begin = i
    return segments


class BatchComposition:
    """Which rows of the running batch are on which adapter; shared by all layers of one model."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []


class RowLoraLinear(nn.Module):
    """A linear layer of the base that gives each row its own adapter's output: the whole layer where the adapter
    saved one of its own, plus the low-rank product where it has factors."""

    def __init__(self, base: nn.Linear, module: str, composition: BatchComposition) -> None:
        super().__init__()
        self.base = base
        self._module = module
        self._composition = composition

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)  # [B, T, d_in] → [B, T, d_out]
        for segment in self._composition.segments:
            own = segment.adapter.saved.get(f"{self._module}.weight")
            if own is not None:
                bias = segment.adapter.saved.get(f"{self._module}.bias", self.base.bias)
                y[segment.begin : segment.end] = F.linear(x[segment.begin : segment.end], own, bias)  # [b, T, d_out]
            factors = segment.adapter.factors.get(self._module)
            if factors is not None:
                rows = x[segment.begin : segment.end].flatten(0, -2)  # [b·T, d_in]
                out = y[segment.begin : segment.end].view(-1, y.shape[-1])  # [b·T, d_out], a view of y
                out.addmm_(rows @ factors[0], factors[1])
        return y


def put_row_lora(model: nn.Module, composition: BatchComposition) -> dict[str, tuple[int, int]]:
    """Wrap every linear layer of ``model`` in place.

    Returns:
        (d_out, d_in) of each wrapped module, by its path in the unwrapped model.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, RowLoraLinear(module, path, composition))
            shapes[path] = (module.out_features, module.in_features)
    return shapes
