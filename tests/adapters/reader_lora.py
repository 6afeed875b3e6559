"""Makes LoRA adapters for the embedded reader, file by file, so that each can be broken in one way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterRef

HIDDEN = 384
QUERY = "bert.encoder.layer.{}.attention.self.query"


def lora_tensors(rank: int = 4, seed: int = 0, scale: float = 0.2) -> dict[str, torch.Tensor]:
    """Factors for the query projections of two layers, by their names in peft's format."""
    torch.manual_seed(seed)
    tensors = {}
    for layer in (1, 4):
        module = f"base_model.model.{QUERY.format(layer)}"
        tensors[f"{module}.lora_A.weight"] = torch.randn(rank, HIDDEN) * scale  # [r, d_in]
        tensors[f"{module}.lora_B.weight"] = torch.randn(HIDDEN, rank) * scale  # [d_out, r]
    return tensors


def write_lora(
    folder: Path, tensors: dict[str, torch.Tensor] | None = None, *, rank: int = 4, **config: Any
) -> AdapterRef:
    """An adapter folder in peft's format; ``config`` adds to or overrides its adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": ["query"]}
    (folder / ADAPTER_CONFIG).write_text(json.dumps({**settings, **config}))
    save_file(tensors if tensors is not None else lora_tensors(rank), folder / ADAPTER_WEIGHTS)
    return AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)
