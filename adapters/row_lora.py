"""LoRA per row of a batch: each token of one forward pass on its own row's adapter.

Tokens on one adapter stand together. A run of them long enough to keep a matrix product busy adds x·Aᵀ·Bᵀ to its slice
of a layer's output, so the adapter is not copied (the segmented form of Punica's SGMV, Chen et al. 2023). Short runs,
as in decoding, where a row brings one token, are multiplied together from a stack of adapters (`adapters.lora_stack`).
Both the reader and the language model use this layer. Knows tensors; knows no files, requests or tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora, StackedRows


def load_lora(files: AdapterFiles, key: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> LoadedLora:
    """Bring an adapter's tensors into the form the layers multiply with."""
    factors = {
        module: (a.to(device, dtype).t(), (b if files.scaling == 1 else b * files.scaling).to(device, dtype).t())
        for module, (a, b) in files.factors.items()
    }
    saved = {name: tensor.to(device, dtype) for name, tensor in files.saved.items()}
    tensors = [t for pair in factors.values() for t in pair] + list(saved.values())
    return LoadedLora(key, files.rank, factors, saved, sum(t.numel() * t.element_size() for t in tensors))


@dataclass(frozen=True)
class Segment:
    """Tokens ``begin`` to ``end`` (half-open) of a batch are on ``adapter``."""

    adapter: LoadedLora
    begin: int
    end: int


def segments_of(adapters: Sequence[LoadedLora | None], lengths: Sequence[int]) -> list[Segment]:
    """The runs of equal adapters; tokens on the base belong to no segment.

    Args:
        adapters: of each piece of the batch, in order.
        lengths: tokens of each piece.
    """
    segments: list[Segment] = []
    begin = end = 0
    for i, (adapter, length) in enumerate(zip(adapters, lengths, strict=True)):
        end += length
        if i + 1 == len(adapters) or adapters[i + 1] is not adapter:
            if adapter is not None:
                segments.append(Segment(adapter, begin, end))
            begin = end
    return segments


@dataclass(frozen=True)
class Plan:
    """Which of a batch's ``tokens`` are on which adapter.

    Attributes:
        segments, stacked: of low-rank products.
        changed: of adapters that change layers in other ways (`adapters.row_changes`).
    """

    tokens: int = 0
    segments: Sequence[Segment] = ()
    stacked: Sequence[StackedRows] = ()
    changed: Sequence[Segment] = ()


@dataclass
class BatchComposition:
    """The plan of the running batch, shared by all layers of one model.

    Attributes:
        body: for layers that see every token.
        head: for the output layer of a language model, which sees only the tokens whose scores are wanted.
    """

    body: Plan = field(default_factory=Plan)
    head: Plan = field(default_factory=Plan)

    def clear(self) -> None:
        """Back to the base model."""
        self.body = self.head = Plan()


class RowLoraLinear(nn.Module):
    """A linear layer of the base that gives each row its own adapter's output: the whole layer where the adapter
    saved one of its own, plus the low-rank product where it has factors."""

    def __init__(self, base: nn.Module, module: str, composition: BatchComposition, *, head: bool = False) -> None:
        super().__init__()
        self.base = base
        self._module = module
        self._composition = composition
        self._head = head

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):  # some models look at their layers' weights
            return getattr(super().__getattr__("base"), name)
        return super().__getattr__(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Straight to the layer's own code: a module's call and look-up cost as much as a small product.
        y: torch.Tensor = self._modules["base"].forward(x)  # type: ignore[union-attr]  # [..., d_in] → [..., d_out]
        plan = self._composition.head if self._head else self._composition.body
        if not plan.segments and not plan.stacked:
            return y
        rows, out = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])  # [tokens, d_in], [tokens, d_out]: views
        for segment in plan.segments:
            self._add_segment(rows, out, segment, plan.tokens)
        for stacked in plan.stacked:
            factors = stacked.stack.factors.get(self._module)
            if factors is not None:
                self._check(rows, plan.tokens)
                stacked.add(rows, out, *factors)
        return y

    def _add_segment(self, rows: torch.Tensor, out: torch.Tensor, segment: Segment, tokens: int) -> None:
        x, y = rows[segment.begin : segment.end], out[segment.begin : segment.end]  # [t, d_in], [t, d_out]
        own = segment.adapter.saved.get(f"{self._module}.weight")
        if own is not None:
            self._check(rows, tokens)
            bias = segment.adapter.saved.get(f"{self._module}.bias")
            y.copy_(F.linear(x, own, self.bias if bias is None else bias))
        factors = segment.adapter.factors.get(self._module)
        if factors is not None:
            self._check(rows, tokens)
            a, b = factors  # [d_in, r], [r, d_out]
            if a.dtype == y.dtype:
                y.addmm_(x @ a, b)
            else:
                y.add_((x.to(a.dtype) @ a @ b).to(y.dtype))

    def _check(self, rows: torch.Tensor, tokens: int) -> None:
        if rows.shape[0] != tokens:  # an expert that sees only some tokens: which ones are whose is unknown here
            raise ValueError(
                f"{self._module} sees {rows.shape[0]} of {tokens} tokens and cannot have an adapter per row."
            )


def put_row_lora(
    model: nn.Module, composition: BatchComposition, head: nn.Module | None = None
) -> dict[str, tuple[int, int]]:
    """Wrap every linear layer of ``model`` in place, GPT-2's Conv1D too.

    Args:
        head: the output layer, where it sees fewer tokens than the others.

    Returns:
        (d_out, d_in) of each wrapped module, by its path in the unwrapped model.
    """
    shapes = linear_shapes(model)
    for path in shapes:
        parent, _, name = path.rpartition(".")
        module = model.get_submodule(path)
        setattr(model.get_submodule(parent), name, RowLoraLinear(module, path, composition, head=module is head))
    return shapes


def linear_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) of each layer of ``model`` that an adapter can target, by module path."""
    shapes: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shapes[path] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):  # its weight is [d_in, d_out]
            shapes[path] = (module.weight.shape[1], module.weight.shape[0])
    return shapes
