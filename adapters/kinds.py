"""The kinds of adapter: which one a folder holds, what its tensors mean, and why some are refused.

The one place that reads peft's ``peft_type``. What is found becomes `AdapterFiles`, in which every kind that is served
is made of four things that rows of one batch can have each for themselves: low-rank products, changes of a layer's
output, learned tokens, whole tensors. Only the named fields of a config count, and none reaches peft. Knows peft's
formats and the project's own two (``BOTTLENECK``, and ``FULL``: a whole model); knows no base model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from adapters.errors import InvalidAdapter

FULL = "FULL"
MAX_RANK = 256
MAX_VIRTUAL_TOKENS = 512
MAX_WIDTH = 4096
_REFUSED = {
    "ADALORA": "its singular values are a third factor; export it as plain LoRA",
    "LOHA": "its product is not of two low-rank factors",
    "LOKR": "its product is not of two low-rank factors",
    "OFT": "it turns the base weights themselves, which all rows share",
}
# Variants that change what the two factors mean: serving them as plain LoRA would be silently wrong.
_PLAIN_ONLY = (
    "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens",
    "trainable_token_indices", "target_parameters", "layer_replication", "rank_pattern", "alpha_pattern",
    "kasa_config", "velora_config", "monteclora_config", "arrow_config", "megatron_config",
)  # fmt: skip
_PREFIX = "base_model.model."
_NAME = re.compile(
    r"^base_model\.model\.(?P<module>.+?)\."
    r"(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector(?:\.weight)?|ia3_l|adaption_prompt|adaption_gate|"
    r"bottleneck_down\.weight|bottleneck_down\.bias|bottleneck_up\.weight|bottleneck_up\.bias|weight|bias)$"
)

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Bottleneck:
    """A layer d → m → d beside a layer's output y: y + up(gelu(down(y))) (Houlsby et al. 2019).

    Attributes:
        down, down_bias: [m, d] and [m].
        up, up_bias: [d, m] and [d].
    """

    down: torch.Tensor
    down_bias: torch.Tensor
    up: torch.Tensor
    up_bias: torch.Tensor


@dataclass(frozen=True)
class AdaptionPrompt:
    """Learned tokens that one attention layer also attends to, through a gate (Zhang et al. 2023, LLaMA-Adapter).

    Attributes:
        tokens: [n, d].
        gate: one number.
    """

    tokens: torch.Tensor
    gate: torch.Tensor


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter as read from disk. By module path:

    Attributes:
        rank: of its products, width of its bottlenecks, or its number of learned tokens; 0 where there is none.
        scaling: what B·A is multiplied with: alpha/r, or alpha/√r for rsLoRA.
        factors: A [r, d_in] and B [d_out, r].
        saved: whole tensors of modules trained besides, such as ``qa_outputs.weight``.
        magnitudes: lengths [d_out] that DoRA gives the rows of the adapted weight (Liu et al. 2024).
        scales: what IA³ multiplies with: a layer's output [d_out, 1] or its input [1, d_in] (Liu et al. 2022).
        bottlenecks, prompts: see there.
        whole: every weight of a fine-tuned model, by its name in the base, in the number format of the file.
        virtual: learned tokens before the prompt: their embeddings [n, d], or for ``prefix_tuning`` their keys and
            values [n, layers · 2 · heads · width].
    """

    kind: str
    base_name: str
    rank: int
    scaling: float = 1.0
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    saved: Tensors = field(default_factory=dict)
    magnitudes: Tensors = field(default_factory=dict)
    scales: Tensors = field(default_factory=dict)
    bottlenecks: Mapping[str, Bottleneck] = field(default_factory=dict)
    prompts: Mapping[str, AdaptionPrompt] = field(default_factory=dict)
    whole: Tensors = field(default_factory=dict)
    virtual: torch.Tensor | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Paths of the modules that it changes, sorted; ``prompt`` for tokens before the prompt, ``model`` for all."""
        others = (*(() if self.virtual is None else ("prompt",)), *(("model",) if self.whole else ()))
        return tuple(sorted({*self.factors, *self.scales, *self.bottlenecks, *self.prompts, *others}))


Parts = dict[str, dict[str, torch.Tensor]]
_Reader = Callable[[dict[str, Any], Parts, Tensors], dict[str, Any]]


def interpret(config: Mapping[str, Any], tensors: Tensors) -> AdapterFiles:
    """What a config and its tensors, finite and of float kinds, are.

    Raises:
        InvalidAdapter: reason ``config``, ``format``, ``rank`` or ``shape``.
    """
    kind = str(config.get("peft_type"))[:80]
    if kind == FULL:
        return _read_whole(config, tensors)
    if kind not in _KINDS:
        why = _REFUSED.get(kind, "its kind is not known here")
        raise InvalidAdapter(
            "config", f"An adapter of peft_type {kind!r} is not served: {why}; or train a LoRA adapter."
        )
    modules = config.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(m, str) for m in modules):
        raise InvalidAdapter("config", "modules_to_save must be a list of module names.")
    name, allowed, read = _KINDS[kind]
    parts: Parts = {}
    whole: dict[str, torch.Tensor] = {}
    saved: dict[str, torch.Tensor] = {}
    for path, tensor in tensors.items():
        match = _NAME.match(path)
        if path in allowed:
            whole[path] = tensor.float()
        elif match and match["part"] in allowed:
            parts.setdefault(match["module"], {})[match["part"]] = tensor.float()
        elif match and match["part"] in ("weight", "bias") and match["module"] in modules:
            saved[f"{match['module']}.{match['part']}"] = tensor.float()
        else:
            belong = ", ".join(sorted(allowed))
            raise InvalidAdapter("format", f"Unexpected tensor {path[:80]}: only {belong} and modules_to_save belong.")
    if not parts and not whole:
        raise InvalidAdapter("format", f"The weights hold none of {', '.join(sorted(allowed))}.")
    found = {"kind": name, **read(dict(config), parts, whole)}
    return AdapterFiles(base_name=str(config.get("base_model_name_or_path") or ""), saved=saved, **found)


def _read_whole(config: Mapping[str, Any], tensors: Tensors) -> AdapterFiles:
    if strange := [name for name in tensors if not name.startswith(_PREFIX)]:
        raise InvalidAdapter("format", f"Unexpected tensor {strange[0][:80]}: weights begin with {_PREFIX}")
    if not tensors:
        raise InvalidAdapter("format", "The weights are empty.")
    whole = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    return AdapterFiles("full", str(config.get("base_model_name_or_path") or ""), 0, whole=whole)


def virtual_tokens(config: Mapping[str, Any]) -> int:
    """How many learned tokens an adapter puts before every prompt; 0 for other kinds and for a config that is wrong."""
    found = config.get("num_virtual_tokens")
    counts = str(config.get("peft_type")) in ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
    return found if counts and isinstance(found, int) and 0 < found <= MAX_VIRTUAL_TOKENS else 0


def _read_lora(config: dict[str, Any], parts: Parts, _: Tensors) -> dict[str, Any]:
    if (config.get("bias") or "none") != "none":
        raise InvalidAdapter("config", 'bias must be "none".')
    for key in _PLAIN_ONLY:
        if config.get(key):
            raise InvalidAdapter("config", f"{key} is not supported in a shared batch; train a plain LoRA adapter.")
    rank, scaling = _rank_and_scaling(config)
    factors = {module: _pair(module, part, rank) for module, part in parts.items()}
    magnitudes = {
        module: part[name].flatten()
        for module, part in parts.items()
        for name in ("lora_magnitude_vector", "lora_magnitude_vector.weight")
        if name in part
    }
    dora = bool(config.get("use_dora"))
    if set(magnitudes) != (set(factors) if dora else set()):
        raise InvalidAdapter("format", "use_dora and the lora_magnitude_vector tensors do not agree.")
    for module, lengths in magnitudes.items():
        if lengths.numel() != len(factors[module][1]):
            raise InvalidAdapter(
                "shape", f"{module}: {lengths.numel()} magnitudes for {len(factors[module][1])} outputs."
            )
    return {
        "kind": "dora" if dora else "lora",
        "rank": rank,
        "scaling": scaling,
        "factors": factors,
        "magnitudes": magnitudes,
    }


def _read_ia3(_: dict[str, Any], parts: Parts, __: Tensors) -> dict[str, Any]:
    for module, part in parts.items():
        if part["ia3_l"].dim() != 2 or 1 not in part["ia3_l"].shape:
            raise InvalidAdapter("shape", f"{module}: ia3_l must be [d_out, 1] or [1, d_in].")
    return {"rank": 0, "scales": {module: part["ia3_l"] for module, part in parts.items()}}


def _read_bottleneck(config: dict[str, Any], parts: Parts, _: Tensors) -> dict[str, Any]:
    if config.get("non_linearity", "gelu") != "gelu":
        raise InvalidAdapter("config", 'non_linearity must be "gelu".')
    width = _count(config, "bottleneck_size", MAX_WIDTH)
    found = {}
    for module, part in parts.items():
        if len(part) != 4:
            raise InvalidAdapter("format", f"{module} needs weight and bias of bottleneck_down and bottleneck_up.")
        layer = Bottleneck(*(part[name] for name in _BOTTLENECK))
        if layer.down.dim() != 2 or layer.down.shape[0] != width:
            raise InvalidAdapter("rank", f"{module}: the config says width {width}, the weights another.")
        d = layer.down.shape[1]
        if [layer.down_bias.shape, layer.up.shape, layer.up_bias.shape] != [(width,), (d, width), (d,)]:
            raise InvalidAdapter("shape", f"{module}: the way up does not lead back to where the way down began.")
        found[module] = layer
    return {"rank": width, "bottlenecks": found}


def _read_virtual(config: dict[str, Any], _: Parts, whole: Tensors) -> dict[str, Any]:
    count = _count(config, "num_virtual_tokens", MAX_VIRTUAL_TOKENS)
    virtual = whole["prompt_embeddings"]
    if virtual.dim() != 2 or len(virtual) != count:
        raise InvalidAdapter("rank", f"The config says {count} tokens; prompt_embeddings is {list(virtual.shape)}.")
    return {"rank": count, "virtual": virtual}


def _read_llama_adapter(config: dict[str, Any], parts: Parts, _: Tensors) -> dict[str, Any]:
    count = _count(config, "adapter_len", MAX_VIRTUAL_TOKENS)
    found = {}
    for module, part in parts.items():
        if len(part) != 2:
            raise InvalidAdapter("format", f"{module} needs adaption_prompt and adaption_gate.")
        tokens, gate = part["adaption_prompt"], part["adaption_gate"]
        if tokens.dim() != 3 or tokens.shape[:2] != (1, count) or gate.numel() != 1:
            raise InvalidAdapter(
                "shape", f"{module}: adaption_prompt must be [1, {count}, d], adaption_gate one number."
            )
        found[module] = AdaptionPrompt(tokens[0], gate.flatten()[0])
    return {"rank": count, "prompts": found}


_LORA = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector", "lora_magnitude_vector.weight")
_BOTTLENECK = ("bottleneck_down.weight", "bottleneck_down.bias", "bottleneck_up.weight", "bottleneck_up.bias")
_KINDS: dict[str, tuple[str, tuple[str, ...], _Reader]] = {
    "LORA": ("lora", _LORA, _read_lora),
    "IA3": ("ia3", ("ia3_l",), _read_ia3),
    "BOTTLENECK": ("bottleneck", _BOTTLENECK, _read_bottleneck),
    "PROMPT_TUNING": ("prompt_tuning", ("prompt_embeddings",), _read_virtual),
    "P_TUNING": ("p_tuning", ("prompt_embeddings",), _read_virtual),
    "PREFIX_TUNING": ("prefix_tuning", ("prompt_embeddings",), _read_virtual),
    "ADAPTION_PROMPT": ("llama_adapter", ("adaption_prompt", "adaption_gate"), _read_llama_adapter),
}


def _count(config: Mapping[str, Any], name: str, most: int) -> int:
    count = config.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= most:
        raise InvalidAdapter("rank", f"{name} must be from 1 to {most}, not {str(count)[:80]}.")
    return count


def _rank_and_scaling(config: Mapping[str, Any]) -> tuple[int, float]:
    rank, alpha = _count(config, "r", MAX_RANK), config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e6:
        raise InvalidAdapter("config", f"lora_alpha must be a positive number, not {str(alpha)[:80]}.")
    return rank, alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _pair(module: str, part: Mapping[str, torch.Tensor], rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    if not {"lora_A.weight", "lora_B.weight"} <= set(part):
        raise InvalidAdapter("format", f"{module} has {', '.join(part)} but not both of lora_A and lora_B.")
    a, b = part["lora_A.weight"], part["lora_B.weight"]
    if a.dim() != 2 or b.dim() != 2:
        raise InvalidAdapter("shape", f"{module}: lora_A and lora_B must have two dimensions.")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise InvalidAdapter(
            "rank", f"{module}: the config says rank {rank}, the weights have {a.shape[0]} and {b.shape[1]}."
        )
    return a, b
