"""What adapters other than LoRA do to a layer, per row of a batch: DoRA, IA³, bottlenecks, LLaMA-Adapter.

DoRA's column lengths are of fixed weights, so they become one factor per output, computed once when the adapter is
loaded; IA³ is such factors from the start. So all of these share steps with rows on LoRA and on the base. Layers are
wrapped when the first adapter that changes them comes, so that a service without any pays nothing. Knows tensors and
attention's parts by Llama's names; knows no files, requests or tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adapters.errors import InvalidAdapter
from adapters.kinds import AdapterFiles, AdaptionPrompt, Bottleneck
from adapters.lora_stack import LayerChange, LoadedLora, VirtualTokens
from adapters.quantized import whole_weight
from adapters.row_lora import BatchComposition, RowLoraLinear, Segment, load_lora

WeightOf = Callable[[str], tuple[torch.Tensor, torch.Tensor | None]]
_LENGTH = 1e-12  # of a row of weights at least


def load_adapter(
    files: AdapterFiles,
    key: str,
    dtype: torch.dtype,
    device: torch.device | str,
    weight_of: WeightOf,
    whole_dtype: torch.dtype | None = None,
) -> LoadedLora:
    """Bring an adapter's tensors into the form the layers compute with.

    Args:
        weight_of: weight [d_out, d_in] and bias [d_out] of a linear layer of the base, by module path.
        whole_dtype: number format of a whole model's weights, where it is another: the base's.
    """
    if files.whole:
        whole = {name: tensor.to(device, whole_dtype or dtype) for name, tensor in files.whole.items()}
        held = sum(t.numel() * t.element_size() for t in whole.values())
        return LoadedLora(key, 0, {}, {}, held, whole=whole)
    loaded = load_lora(files, key, dtype, device)
    changes: dict[str, LayerChange] = {}
    for module, lengths in files.magnitudes.items():
        changes[module] = _dora(*files.factors[module], files.scaling, lengths, *weight_of(module))
    for module, scale in files.scales.items():
        into = scale.shape[0] == 1 and scale.shape[1] != 1
        flat = scale.flatten()
        changes[module] = LayerChange(scale_in=flat) if into else LayerChange(scale=flat)
    for module, layer in files.bottlenecks.items():
        own = Bottleneck(*(t.to(device, dtype) for t in (layer.down, layer.down_bias, layer.up, layer.up_bias)))
        changes[module] = replace(changes.get(module, LayerChange()), bottleneck=own)
    changes = {module: _placed(change, device, dtype) for module, change in changes.items()}
    prompts = {
        path: AdaptionPrompt(p.tokens.to(device, dtype), p.gate.to(device, dtype)) for path, p in files.prompts.items()
    }
    virtual = None
    if files.virtual is not None:
        virtual = VirtualTokens(len(files.virtual), files.virtual.to(device, dtype))
    more = [t for change in changes.values() for t in _tensors(change)]
    more += [p.tokens for p in prompts.values()] + ([files.virtual] if files.virtual is not None else [])
    held = loaded.bytes + sum(t.numel() for t in more) * dtype.itemsize
    return replace(loaded, changes=changes, prompts=prompts, virtual=virtual, bytes=held)


def _dora(
    a: torch.Tensor,
    b: torch.Tensor,
    scaling: float,
    lengths: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> LayerChange:
    """m / ‖W + sBA‖ for each output, and what it must not do to the bias."""
    adapted = weight.float() + scaling * (b @ a)  # [d_out, d_in]
    scale = lengths / adapted.norm(dim=1).clamp_min(_LENGTH)  # [d_out]
    return LayerChange(scale=scale, shift=None if bias is None else (1 - scale) * bias.float())


def _placed(change: LayerChange, device: torch.device | str, dtype: torch.dtype) -> LayerChange:
    def put(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.to(device, dtype)

    return replace(change, scale_in=put(change.scale_in), scale=put(change.scale), shift=put(change.shift))


def _tensors(change: LayerChange) -> list[torch.Tensor]:
    own = [change.scale_in, change.scale, change.shift]
    if change.bottleneck is not None:
        own += [change.bottleneck.down, change.bottleneck.down_bias, change.bottleneck.up, change.bottleneck.up_bias]
    return [tensor for tensor in own if tensor is not None]


class RowChangedLinear(nn.Module):
    """A layer with low-rank products per row, changed for the rows whose adapters change it."""

    def __init__(self, inner: RowLoraLinear, module: str, composition: BatchComposition, *, head: bool) -> None:
        super().__init__()
        self.inner = inner
        self._module, self._composition, self._head = module, composition, head

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            return getattr(super().__getattr__("inner"), name)
        return super().__getattr__(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plan = self._composition.head if self._head else self._composition.body
        mine = [(s, c) for s in plan.changed if (c := s.adapter.changes.get(self._module)) is not None]
        if mine and x.shape[:-1].numel() != plan.tokens:
            raise ValueError(f"{self._module} does not see every token and cannot have an adapter per row.")
        if any(change.scale_in is not None for _, change in mine):
            x = x.clone(memory_format=torch.contiguous_format)
            rows = x.view(-1, x.shape[-1])  # [tokens, d_in]
            for segment, change in mine:
                if change.scale_in is not None:
                    rows[segment.begin : segment.end] *= change.scale_in
        y: torch.Tensor = self.inner(x)  # [..., d_out]
        out = y.view(-1, y.shape[-1])  # [tokens, d_out]
        for segment, change in mine:
            part = out[segment.begin : segment.end]  # [t, d_out]: a view
            if change.scale is not None:
                part *= change.scale
            if change.shift is not None:
                part += change.shift
            if (layer := change.bottleneck) is not None:
                inner = F.gelu(F.linear(part.to(layer.down.dtype), layer.down, layer.down_bias))  # [t, m]
                part += F.linear(inner, layer.up, layer.up_bias)
        return y


class RowPromptedAttention(nn.Module):
    """An attention layer after Llama's pattern whose rows also attend to their adapters' own tokens, through a gate."""

    def __init__(self, inner: nn.Module, path: str, composition: BatchComposition) -> None:
        super().__init__()
        self.inner = inner
        self._path, self._composition = path, composition

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # models look at their layers' settings
            return getattr(super().__getattr__("inner"), name)

    def forward(self, hidden_states: torch.Tensor, **options: Any) -> Any:
        output, *rest = self.inner(hidden_states=hidden_states, **options)  # [1, N, d]
        for segment in self._composition.body.changed:
            prompt = segment.adapter.prompts.get(self._path)
            if prompt is not None:
                cos, sin = (t[0, segment.begin : segment.end] for t in options["position_embeddings"])  # [t, D]
                part = output[0, segment.begin : segment.end]  # [t, d]: a view
                part += self._beside(hidden_states[0, segment.begin : segment.end], prompt, cos, sin)
        return output, *rest

    def _beside(self, x: torch.Tensor, prompt: AdaptionPrompt, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[t, d]: what the rows take from their adapter's tokens, which have no position."""
        width: int = self.inner.head_dim  # type: ignore[assignment]
        tokens = prompt.tokens.to(x.dtype)  # [n, d]
        keys, values = (  # [heads, n, D]
            _base(self.inner, name)(tokens).view(len(tokens), -1, width).transpose(0, 1)
            for name in ("k_proj", "v_proj")
        )
        q = _base(self.inner, "q_proj")(x).view(len(x), -1, width).transpose(0, 1)  # [H, t, D]
        first, second = q.chunk(2, -1)
        q = q * cos + torch.cat((-second, first), -1) * sin  # turned by its position
        groups = len(q) // len(keys)
        keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)  # [H, n, D]
        weights = torch.softmax(q @ keys.transpose(-1, -2) / width**0.5, -1, dtype=torch.float32)  # [H, t, n]
        mixed = (prompt.gate * weights).to(values.dtype) @ values  # [H, t, D]
        beside: torch.Tensor = _base(self.inner, "o_proj")(mixed.transpose(0, 1).reshape(len(x), -1))  # [t, d]
        return beside


def _base(attention: nn.Module, name: str) -> nn.Module:
    return unwrapped(getattr(attention, name))


def unwrapped(layer: nn.Module) -> nn.Module:
    """The base's own layer, whatever stands around it for the rows' sake."""
    if isinstance(layer, RowChangedLinear):
        return unwrapped(layer.inner)
    return layer.base if isinstance(layer, RowLoraLinear) else layer


def linear_weight(model: nn.Module, path: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [d_out, d_in] and bias [d_out] of a linear layer of the base."""
    layer: Any = unwrapped(model.get_submodule(path))
    return whole_weight(layer), layer.bias


class RowChanges:
    """Wraps a model's layers as the adapters of its rows need it, and remembers which."""

    def __init__(self, model: nn.Module, composition: BatchComposition, head: nn.Module | None = None) -> None:
        self._model, self._composition, self._head = model, composition, head
        self._wrapped: set[str] = set()

    def make_room(self, adapters: Iterable[LoadedLora | None]) -> bool:
        """Wrap what these adapters change; whether any of them changes anything. Not while the model computes."""
        changing = [a for a in adapters if a is not None and (a.changes or a.prompts)]
        for adapter in changing:
            for path in adapter.changes.keys() - self._wrapped:
                layer = self._model.get_submodule(path)
                self._put(path, RowChangedLinear(layer, path, self._composition, head=layer is self._head))  # type: ignore[arg-type]
            for path in adapter.prompts.keys() - self._wrapped:
                self._put(path, RowPromptedAttention(self._model.get_submodule(path), path, self._composition))
        return bool(changing)

    def _put(self, path: str, layer: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        around = self._model.get_submodule(parent)
        setattr(around.inner if isinstance(around, RowPromptedAttention) else around, name, layer)
        self._wrapped.add(path)


def changed_segments(segments: Iterable[Segment]) -> list[Segment]:
    """Those whose adapters change layers otherwise than by low-rank products."""
    return [s for s in segments if s.adapter.changes or s.adapter.prompts]


def check_prompts(files: AdapterFiles, model: nn.Module) -> None:
    """Refuse a LLaMA-Adapter that does not fit. Raises InvalidAdapter, reason ``target`` or ``shape``."""
    for path, prompt in files.prompts.items():
        try:
            attention = model.get_submodule(path)
        except AttributeError as error:
            raise InvalidAdapter("target", f"The base model has no layer {path}: trained on another base?") from error
        if not all(hasattr(attention, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim")):
            raise InvalidAdapter("target", f"{path} is no attention after Llama's pattern; LLaMA-Adapter needs that.")
        width = _base(attention, "k_proj").in_features
        if prompt.tokens.shape[1] != width:
            raise InvalidAdapter("shape", f"{path}: the base is {width} wide, the adapter {prompt.tokens.shape[1]}.")
