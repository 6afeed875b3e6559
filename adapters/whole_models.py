"""Whole fine-tuned models beside the base: other weights in the same layers, for one forward pass at a time.

Every weight differs, so their rows share no product with others' and are computed in passes of their own. The weights
are put in place for such a pass and the base's put back, the same tensors, by the one thread that computes. Knows
parameters by name; knows no rows, no files and no threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapters.errors import InvalidAdapter
from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora
from adapters.quantized import Int8Linear, whole_weight

T = TypeVar("T")


class WholeModels:
    """The places of a model's weights. To be made before its layers are wrapped for their rows' sake: it goes by the
    names that the model itself has for them."""

    def __init__(self, model: nn.Module) -> None:
        self._places = dict(model.named_parameters())  # tied weights once, as they are saved
        self._own = {name: place.data for name, place in self._places.items()}
        self._layers = {
            path: (layer, layer.weight.data, None if layer.bias is None else layer.bias.data)
            for path, layer in model.named_modules()
            if isinstance(layer, nn.Linear | Conv1D)
        }
        self._fewer_bits = any(isinstance(m, Int8Linear) or _in_four_bits(m) for m in model.modules())

    @property
    def bytes(self) -> int:
        """Memory of the base's weights, and so of each whole model beside it."""
        return sum(p.numel() * p.element_size() for p in self._places.values())

    def linear(self, path: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The base's own weight [d_out, d_in] and bias [d_out] of a layer, whatever stands in its place just now. Safe
        for any thread."""
        layer, weight, bias = self._layers[path]
        return whole_weight(layer, None if self._fewer_bits else weight), bias

    def check(self, files: AdapterFiles) -> None:
        """Refuse weights that are not those of this very architecture, all of them.

        Raises:
            InvalidAdapter: reason ``config``, ``target`` or ``shape``.
        """
        if not files.whole:
            return
        if self._fewer_bits:
            raise InvalidAdapter(
                "config", "A whole model cannot stand beside a base in fewer bits; set LOREBASE_QUANTIZE=none."
            )
        for name in sorted(files.whole.keys() ^ self._places.keys()):
            what = "lacks" if name in self._places else "has, and the base has not,"
            raise InvalidAdapter("target", f"The model {what} {name}: trained from another base?")
        for name, tensor in files.whole.items():
            if tensor.shape != self._places[name].shape:
                raise InvalidAdapter(
                    "shape",
                    f"{name}: the base has {list(self._places[name].shape)}, the model {list(tensor.shape)}.",
                )

    @contextmanager
    def in_place(self, adapter: LoadedLora | None) -> Iterator[None]:
        """Compute with an adapter's weights, where it is a whole model. The base's come back whatever happens."""
        if adapter is None or not adapter.whole:
            yield
            return
        try:
            for name, place in self._places.items():
                place.data = adapter.whole[name]
            yield
        finally:
            for name, place in self._places.items():
                place.data = self._own[name]


def by_model(
    work: Sequence[T], adapter_of: Callable[[T], LoadedLora | None]
) -> list[tuple[LoadedLora | None, list[T]]]:
    """What can be computed together: all that is on the base's weights, then what is on each whole model."""
    groups: dict[int, tuple[LoadedLora | None, list[T]]] = {}
    for item in work:
        adapter = adapter_of(item)
        whole = adapter if adapter is not None and adapter.whole else None
        groups.setdefault(id(whole) if whole is not None else 0, (whole, []))[1].append(item)
    return [groups[key] for key in sorted(groups, key=lambda key: key != 0)]


def _in_four_bits(module: nn.Module) -> bool:
    return getattr(getattr(module, "weight", None), "quant_state", None) is not None
