"""What may be in an adapter's folder: file-level checks that need no model.

Only JSON and safetensors are opened, nothing is executed, and every refusal says which rule was broken.
Knows peft's LoRA file format; knows no base model beyond the shapes it is handed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from adapters.base_model import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterRef
from adapters.errors import InvalidAdapter

MAX_RANK = 256
_MAX_CONFIG_BYTES = 64 * 1024
_NUMBER_FORMATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NO_EFFECT = 1e-5  # of the largest output; below it a difference is rounding
_FACTOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
_SAVED = re.compile(r"^base_model\.model\.(?P<module>.+)\.(?P<part>weight|bias)$")
_OTHER_KINDS = {
    "PREFIX_TUNING": "a prefix takes up keys and values of every row's context, which are not kept per adapter",
    "PROMPT_TUNING": "virtual tokens stand before the prompt, where this service reads only text",
    "P_TUNING": "virtual tokens stand before the prompt, where this service reads only text",
    "IA3": "its factors scale what whole layers say, which is not a low-rank product beside them",
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


@dataclass(frozen=True)
class LoraFiles:
    """An adapter as read from disk.

    Attributes:
        scaling: what B·A is multiplied with: alpha/r, or alpha/√r for rsLoRA.
        factors: by module path, A [r, d_in] and B [d_out, r].
        saved: whole tensors of modules trained besides LoRA, such as ``qa_outputs.weight``.
    """

    base_name: str
    rank: int
    scaling: float
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    saved: Mapping[str, torch.Tensor]


def read_lora(folder: Path, max_rank: int = MAX_RANK) -> LoraFiles:
    """Read and check an adapter folder in peft's LoRA format.

    Raises:
        InvalidAdapter: reason ``format``, ``config``, ``rank``, ``shape``, ``target`` or ``not_finite``.
    """
    config = _read_config(folder / ADAPTER_CONFIG)
    rank, scaling = _rank_and_scaling(config, max_rank)
    tensors = _read_tensors(folder / ADAPTER_WEIGHTS)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    saved: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _NUMBER_FORMATS:
            raise InvalidAdapter("format", f"Tensor {name[:80]} is {tensor.dtype}; use float16, bfloat16 or float32.")
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidAdapter(
                "not_finite", f"Tensor {name[:80]} holds NaN or infinite values; train the adapter again."
            )
        if match := _FACTOR.match(name):
            halves.setdefault(match["module"], {})[match["side"]] = tensor.float()
        elif (match := _SAVED.match(name)) and match["module"] in (config.get("modules_to_save") or ()):
            saved[f"{match['module']}.{match['part']}"] = tensor.float()
        else:
            raise InvalidAdapter(
                "format", f"Unexpected tensor {name[:80]}: only lora_A, lora_B and modules_to_save belong."
            )
    factors = {module: _pair(module, half, rank) for module, half in halves.items()}
    if not factors:
        raise InvalidAdapter("format", "The weights hold no lora_A/lora_B tensors.")
    return LoraFiles(str(config.get("base_model_name_or_path") or ""), rank, scaling, factors, saved)


def check_fits(files: LoraFiles, shapes: Mapping[str, tuple[int, int]], saved: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse an adapter whose tensors do not fit a base.

    Args:
        shapes: (d_out, d_in) of each linear module of the base, by path.
        saved: shapes of the tensors an adapter may replace whole, by name.

    Raises:
        InvalidAdapter: reason ``target`` (no such module) or ``shape``.
    """
    for module, (a, b) in files.factors.items():
        if module not in shapes:
            raise InvalidAdapter("target", f"The base model has no linear module {module}: trained on another base?")
        out_features, in_features = shapes[module]
        if a.shape[1] != in_features or b.shape[0] != out_features:
            raise InvalidAdapter(
                "shape",
                f"{module}: the base is {in_features}→{out_features}, the adapter {a.shape[1]}→{b.shape[0]}: "
                "trained on another base?",
            )
    for name, tensor in files.saved.items():
        if name not in saved:
            raise InvalidAdapter("target", f"This base lets no adapter replace {name}.")
        if tuple(tensor.shape) != tuple(saved[name]):
            raise InvalidAdapter(
                "shape", f"{name}: the base has {tuple(saved[name])}, the adapter {tuple(tensor.shape)}."
            )


def check_unchanged(ref: AdapterRef) -> None:
    """Refuse a version whose weights on disk are not those that were registered.

    Raises:
        InvalidAdapter: reason ``format``.
    """
    path = ref.folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise InvalidAdapter("format", "The adapter's files are gone: it was deleted a moment ago.")
    if sha256_of(path) != ref.sha256:
        raise InvalidAdapter("format", "The adapter's weights on disk are not the ones that were registered.")


def check_effect(base: torch.Tensor, adapted: torch.Tensor) -> None:
    """Compare the outputs of a probe without and with an adapter, tensors of one shape.

    Raises:
        InvalidAdapter: reason ``not_finite`` or ``no_effect``.
    """
    if not bool(torch.isfinite(adapted).all()):
        raise InvalidAdapter("not_finite", "The adapter makes the model's scores infinite or NaN.")
    if float((adapted - base).abs().max()) <= _NO_EFFECT * float(base.abs().max()):
        raise InvalidAdapter("no_effect", "The adapter changes nothing: its output equals the base model's.")


def tensor_bytes(path: Path, number_bytes: int) -> int:
    """Bytes that the tensors of a safetensors file take at ``number_bytes`` each, read from its header; 0 when it
    cannot be read, which whoever loads it will say."""
    try:
        with safe_open(path, "pt") as file:
            shapes: list[list[int]] = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0
    return number_bytes * sum(math.prod(shape) for shape in shapes)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidAdapter("format", f"{ADAPTER_CONFIG} is missing.") from error
    if len(raw) > _MAX_CONFIG_BYTES:
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} is larger than {_MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} must be a JSON object.")
    if config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:80]
        why = _OTHER_KINDS.get(kind, "its kind is not known here")
        raise InvalidAdapter("config", f"peft_type must be LORA, not {kind!r}: {why}. Train a LoRA adapter instead.")
    if config.get("use_dora"):
        raise InvalidAdapter(
            "config",
            "use_dora is not supported: DoRA scales each column of base weight and adapter together, which rows that "
            "share one pass over the base weights cannot have. Train with use_dora=false, or use_rslora=true.",
        )
    if (config.get("bias") or "none") != "none":
        raise InvalidAdapter("config", 'bias must be "none".')
    for key in _PLAIN_ONLY:
        if config.get(key):
            raise InvalidAdapter("config", f"{key} is not supported in a shared batch; train a plain LoRA adapter.")
    modules = config.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(m, str) for m in modules):
        raise InvalidAdapter("config", "modules_to_save must be a list of module names.")
    return config


def _rank_and_scaling(config: dict[str, Any], max_rank: int) -> tuple[int, float]:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise InvalidAdapter("rank", f"r must be a whole number of 1 or more, not {str(rank)[:80]}.")
    if rank > max_rank:
        raise InvalidAdapter("rank", f"Rank {str(rank)[:20]} is over the limit of {max_rank}.")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e6:
        raise InvalidAdapter("config", f"lora_alpha must be a positive number, not {str(alpha)[:80]}.")
    return rank, alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError as error:
        raise InvalidAdapter("format", f"{ADAPTER_WEIGHTS} is missing.") from error
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InvalidAdapter("format", "The weights are a pickle or zip archive; only safetensors are accepted.")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidAdapter("format", f"{ADAPTER_WEIGHTS} is not a valid safetensors file: {error}") from error


def _pair(module: str, half: dict[str, torch.Tensor], rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    if set(half) != {"A", "B"}:
        raise InvalidAdapter("format", f"{module} has lora_{next(iter(half))} but not its other half.")
    a, b = half["A"], half["B"]
    if a.dim() != 2 or b.dim() != 2:
        raise InvalidAdapter("shape", f"{module}: lora_A and lora_B must have two dimensions.")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise InvalidAdapter(
            "rank", f"{module}: the config says rank {rank}, the weights have {a.shape[0]} and {b.shape[1]}."
        )
    return a, b
