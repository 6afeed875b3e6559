"""From an adapter's folder to tensors that rows of a language model can run on.

Knows the files, the checks and the model they must fit; knows no rows, no pool, no threads.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.causal.encoder_decoder import EncoderDecoderRunner
from adapters.causal.model import CausalModel
from adapters.causal.runner import ModelRunner
from adapters.engine import AdapterRef
from adapters.errors import InvalidAdapter
from adapters.kinds import FULL, AdapterFiles, virtual_tokens
from adapters.lora_stack import LoadedLora
from adapters.row_changes import check_prompts, load_adapter
from adapters.validation import check_fits, read_adapter, read_config, tensor_bytes

Runner = ModelRunner | EncoderDecoderRunner


def read_fitting(base: CausalModel, runner: Runner, folder: Path, sha256: str | None = None) -> AdapterFiles:
    """Read an adapter and check that all of it has its place in the model.

    Args:
        sha256: what the weights' hash must be.

    Raises:
        InvalidAdapter: with the reason.
    """
    files = read_adapter(folder, sha256)
    check_fits(files, base.linears, {})
    check_prompts(files, base.model)
    if files.whole:
        runner.check_whole(files)
    if files.virtual is not None:
        runner.check_virtual(files.virtual, files.kind)
    return files


def bring(base: CausalModel, runner: Runner, files: AdapterFiles, key: str) -> LoadedLora:
    """Bring a fitting adapter's tensors into the form, number format and place that the model computes with."""
    loaded = load_adapter(files, key, _dtype(base), base.device, runner.linear, base.dtype)
    if files.kind == "prefix_tuning" and files.virtual is not None:
        return replace(loaded, virtual=runner.prefix(files.virtual))
    return loaded


def bytes_of(base: CausalModel, adapter: AdapterRef) -> int:
    """About how much memory an adapter will take, from its file's header."""
    dtype = base.dtype if is_whole(adapter) else _dtype(base)
    with adapter.at_hand() as folder:
        return tensor_bytes(folder / ADAPTER_WEIGHTS, dtype.itemsize)


@lru_cache(4096)
def virtual_tokens_of(adapter: AdapterRef) -> int:
    """What an adapter's config says of learned tokens before the prompt; what is wrong with it shows when it loads."""
    try:
        with adapter.at_hand() as folder:
            return virtual_tokens(read_config(folder))
    except InvalidAdapter:
        return 0


@lru_cache(4096)
def is_whole(adapter: AdapterRef) -> bool:
    """Whether an adapter is a whole model, by its config."""
    try:
        with adapter.at_hand() as folder:
            return read_config(folder).get("peft_type") == FULL
    except InvalidAdapter:
        return False


def _dtype(base: CausalModel) -> torch.dtype:
    # Thin products in bfloat16 are far slower on a processor than in float32, and an adapter is small.
    return torch.float32 if base.device.type == "cpu" else base.dtype
