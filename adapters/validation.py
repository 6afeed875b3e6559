"""What may be in an adapter's folder: file-level checks that need no model, and what an adapter must prove.

Only JSON and safetensors are opened, nothing is executed, and every refusal says which rule was broken. What the
tensors mean is `adapters.kinds`' to say. Knows no base model beyond the shapes it is handed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.errors import InvalidAdapter
from adapters.kinds import AdapterFiles, interpret

_MAX_CONFIG_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 16 * 1024**2
_NUMBER_FORMATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HASHED_BESIDE = 256 * 1024  # bytes from which on a second thread is worth its start
_NO_EFFECT = 1e-5  # of the largest output; below it a difference is rounding


def read_adapter(folder: Path, sha256: str | None = None) -> AdapterFiles:
    """Read and check an adapter folder in peft's format.

    Args:
        sha256: what the weights' hash must be.

    Raises:
        InvalidAdapter: reason ``format``, ``config``, ``rank``, ``shape`` or ``not_finite``.
    """
    config = read_config(folder)
    content = _read_weights(folder / ADAPTER_WEIGHTS, sha256)
    if sha256 is None or len(content) < _HASHED_BESIDE:
        _refuse_other(sha256, hashlib.sha256(content).hexdigest() if sha256 is not None else None)
        return interpret(config, _tensors_of(content))
    with ThreadPoolExecutor(1) as beside:  # hashing takes as long as all the rest, and lets other threads run
        digest = beside.submit(lambda: hashlib.sha256(content).hexdigest())
        try:
            return interpret(config, _tensors_of(content))
        finally:
            _refuse_other(sha256, digest.result())


def _refuse_other(wanted: str | None, found: str | None) -> None:
    if found != wanted:
        raise InvalidAdapter("format", "The adapter's weights on disk are not the ones that were registered.")


def check_fits(
    files: AdapterFiles, shapes: Mapping[str, tuple[int, int]], saved: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse an adapter whose tensors do not fit a base.

    Args:
        shapes: (d_out, d_in) of each linear module of the base, by path.
        saved: shapes of the tensors an adapter may replace whole, by name.

    Raises:
        InvalidAdapter: reason ``target`` (no such module) or ``shape``.
    """
    wanted: dict[str, tuple[int, int]] = {m: (b.shape[0], a.shape[1]) for m, (a, b) in files.factors.items()}
    for module in {*wanted, *files.scales, *files.bottlenecks}:
        if module not in shapes:
            raise InvalidAdapter("target", f"The base model has no linear module {module}: trained on another base?")
        d_out, d_in = shapes[module]
        if module in files.scales:
            wanted[module] = (d_out, d_in) if files.scales[module].shape in ((d_out, 1), (1, d_in)) else (0, 0)
        if module in files.bottlenecks:
            wanted[module] = (len(files.bottlenecks[module].up), d_in)
        if wanted[module] != (d_out, d_in):
            raise InvalidAdapter(
                "shape",
                f"{module}: the base is {d_in}→{d_out}, the adapter is not ({wanted[module][1]}→{wanted[module][0]}): "
                "trained on another base?",
            )
    for name, tensor in files.saved.items():
        if name not in saved:
            raise InvalidAdapter("target", f"This base lets no adapter replace {name}.")
        if tuple(tensor.shape) != tuple(saved[name]):
            raise InvalidAdapter(
                "shape", f"{name}: the base has {tuple(saved[name])}, the adapter {tuple(tensor.shape)}."
            )


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
        with path.open(
            "rb"
        ) as file:  # and not with safetensors, which holds up all threads while it waits for the disk
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _MAX_HEADER_BYTES)))
        numbers: int = sum(math.prod(entry["shape"]) for entry in header.values() if "shape" in entry)
    except (OSError, ValueError, AttributeError, TypeError):
        return 0
    return numbers * number_bytes


def read_config(folder: Path) -> dict[str, Any]:
    """The adapter's config, a JSON object. Raises InvalidAdapter, reason ``format`` or ``config``."""
    try:
        raw = (folder / ADAPTER_CONFIG).read_bytes()
    except FileNotFoundError as error:
        raise InvalidAdapter("format", f"{ADAPTER_CONFIG} is missing.") from error
    except OSError as error:
        raise InvalidAdapter("format", f"{ADAPTER_CONFIG} cannot be read: {error.strerror}.") from error
    if len(raw) > _MAX_CONFIG_BYTES:
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} is larger than {_MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidAdapter("config", f"{ADAPTER_CONFIG} must be a JSON object.")
    return config


def _read_weights(path: Path, sha256: str | None) -> bytes:
    try:
        return path.read_bytes()  # once: what is checked is what is used
    except FileNotFoundError as error:
        why = "missing" if sha256 is None else "gone: the adapter was deleted a moment ago"
        raise InvalidAdapter("format", f"{ADAPTER_WEIGHTS} is {why}.") from error
    except OSError as error:
        raise InvalidAdapter("format", f"{ADAPTER_WEIGHTS} cannot be read: {error.strerror}.") from error


def _tensors_of(content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, finite and of float kinds."""
    if content[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InvalidAdapter("format", "The weights are a pickle or zip archive; only safetensors are accepted.")
    try:
        tensors: dict[str, torch.Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidAdapter("format", f"{ADAPTER_WEIGHTS} is not a valid safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _NUMBER_FORMATS:
            raise InvalidAdapter("format", f"Tensor {name[:80]} is {tensor.dtype}; use float16, bfloat16 or float32.")
        # One pass: any NaN or infinity reaches the sum. So may a sum of large numbers, which is looked at closely.
        if not math.isfinite(float(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
            raise InvalidAdapter(
                "not_finite", f"Tensor {name[:80]} holds NaN or infinite values; train the adapter again."
            )
    return tensors
