"""Base weights in fewer bits: 8 (absmax per output) or 4 (NormalFloat, Dettmers et al. 2023).

Only weights are rounded, once, when the model is loaded; activations stay as they are, so that what a row gets does not
depend on who shares its batch. Adapters are added on top, unrounded. Knows linear layers; knows no adapters, no files.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapters.errors import ModelUnavailable

METHODS = ("none", "int8", "nf4")
_LEAST = 1e-12


class Int8Linear(nn.Linear):
    """A linear layer whose weight is int8 [d_out, d_in] times a scale [d_out]."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        weight = layer.weight.detach()  # [d_out, d_in]
        scale = weight.float().abs().amax(1).clamp_min(_LEAST) / 127  # [d_out]
        rounded = (weight.float() / scale[:, None]).round().to(torch.int8)
        self.weight = nn.Parameter(rounded, requires_grad=False)
        self.scale = nn.Parameter(scale.to(weight.dtype), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale  # [..., d_out]
        return y if self.bias is None else y + self.bias

    def whole(self) -> torch.Tensor:
        """The weight as it counts, [d_out, d_in]."""
        return self.weight * self.scale[:, None]


def quantize(model: Any, method: str) -> None:
    """Round the weights of every linear layer in place, but for the output layer's.

    Raises:
        ModelUnavailable: the method is unknown, or this model or installation cannot have it.
    """
    if method == "none":
        return
    if method not in METHODS:
        raise ModelUnavailable(f"quantize must be one of {', '.join(METHODS)}, not {method!r}.")
    if model.config.is_encoder_decoder:
        raise ModelUnavailable("Encoder-decoder models are not quantised here; set LOREBASE_QUANTIZE=none.")
    head = model.get_output_embeddings()
    paths = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head]
    if not paths:
        raise ModelUnavailable("The model has no layers of a kind that can be quantised; set LOREBASE_QUANTIZE=none.")
    to_less = Int8Linear if method == "int8" else _four_bits()
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, to_less(model.get_submodule(path)))


def whole_weight(layer: Any, kept: torch.Tensor | None = None) -> torch.Tensor:
    """The weight [d_out, d_in] of a linear layer, as it counts, quantised or not.

    Args:
        kept: the layer's own weight where another stands in its place.
    """
    if isinstance(layer, Int8Linear):
        return layer.whole()
    weight: torch.Tensor = layer.weight if kept is None else kept
    if (state := getattr(weight, "quant_state", None)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, state)  # type: ignore[no-any-return]
    return weight.t() if isinstance(layer, Conv1D) else weight


def _four_bits() -> Any:
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise ModelUnavailable(
            "LOREBASE_QUANTIZE=nf4 needs bitsandbytes, which is not installed: pip install 'lorebase[quantized]', or "
            "set LOREBASE_QUANTIZE=int8, which needs nothing."
        ) from error

    def convert(layer: nn.Linear) -> Any:
        dtype, device = layer.weight.dtype, layer.weight.device
        new = Linear4bit(
            layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        new.weight = Params4bit(layer.weight.detach(), requires_grad=False, quant_type="nf4", module=new)
        new.bias = layer.bias
        return new.to(device)

    return convert
