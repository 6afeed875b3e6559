"""Language models and adapters to measure with: real architectures in known sizes, random weights, made on the spot.

Every word of their tokenizer is one token, so a prompt has as many tokens as it has words, and no answer ends by
itself. Knows models, adapters and prompts; knows no engine and no clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.utils import logging as transformers_logging

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterRef
from adapters.row_lora import linear_shapes

QV = ("q_proj", "v_proj")
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
END = "<end>"
_PAD = "<pad>"
_FIRST_WORD = 2  # after the two control tokens
_SPECIAL_IDS: dict[str, Any] = {"bos_token_id": None, "pad_token_id": 0, "eos_token_id": 1}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model to measure with.

    Attributes:
        rows: requests that are asked at once.
    """

    name: str
    config: PretrainedConfig
    dtype: torch.dtype
    rows: int = 32


def shapes() -> dict[str, Shape]:
    """The models, smallest first: a 20M- and a 135M-shaped Llama, a 0.5B-shaped Qwen, and one for quick runs."""
    tiny = LlamaConfig(
        vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, **_SPECIAL_IDS,
    )  # fmt: skip
    small = LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=True, **_SPECIAL_IDS,
    )  # fmt: skip
    smol = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, **_SPECIAL_IDS,
    )  # fmt: skip
    qwen = Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True, **_SPECIAL_IDS,
    )  # fmt: skip
    return {
        "3M": Shape("3M", tiny, torch.float32),
        "20M": Shape("20M", small, torch.float32),
        "135M": Shape("135M", smol, torch.bfloat16),
        "0.5B": Shape("0.5B", qwen, torch.bfloat16, rows=8),
    }


def save_model(shape: Shape, folder: Path, *, seed: int = 0) -> Path:
    """Save random weights and a tokenizer of one-token words as a Hugging Face folder."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(shape.config, dtype=shape.dtype)
    with torch.no_grad():
        model.get_output_embeddings().weight[1] = 0  # never the likeliest: no answer ends by itself
    model.save_pretrained(folder)
    words = {_PAD: 0, END: 1, **{f"w{i}": i for i in range(_FIRST_WORD, shape.config.vocab_size)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token=f"w{_FIRST_WORD}"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=_PAD, eos_token=END)
    fast.chat_template = "{{ messages[-1]['content'] }}"
    fast.save_pretrained(folder)
    return folder


def save_adapter(
    model: Path, folder: Path, *, seed: int, rank: int, targets: Sequence[str], strength: float = 0.02
) -> AdapterRef:
    """Save random LoRA factors for a model, in peft's format; by default worth a tenth of the weights."""
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    chance = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (d_out, d_in) in linear_shapes(bare).items():
        if module.rpartition(".")[2] in targets:
            path = f"base_model.model.{module}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(rank, d_in, generator=chance) * d_in**-0.5
            tensors[f"{path}.lora_B.weight"] = torch.randn(d_out, rank, generator=chance) * strength
    folder.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM",
        base_model_name_or_path=str(model), inference_mode=True,
    )  # fmt: skip
    config.save_pretrained(folder)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    return AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)


def save_adapters(model: Path, folder: Path, *, count: int, rank: int, targets: Sequence[str] = QV) -> list[AdapterRef]:
    """``count`` adapters of different weights."""
    return [save_adapter(model, folder / f"adapter-{i}", seed=i + 1, rank=rank, targets=targets) for i in range(count)]


def make_prompts(shape: Shape, lengths: Sequence[int], *, seed: int = 0) -> list[list[int]]:
    """Token ids of random prompts of these lengths."""
    chance = random.Random(seed)
    last = shape.config.vocab_size - 1
    return [[chance.randint(_FIRST_WORD, last) for _ in range(length)] for length in lengths]


def text_of(prompt: Sequence[int]) -> str:
    """The text whose tokens these are."""
    return " ".join(f"w{i}" for i in prompt)


def rho(shape: Shape, rank: int, targets: Sequence[str]) -> float:
    """Numbers of one adapter for each number of the base: r·Σ(d_in+d_out) / Σ(d_in·d_out), the sum above over the
    targeted layers, the one below over every linear layer, the output layer included."""
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(shape.config)
    linears = linear_shapes(bare)
    added = sum(rank * sum(size) for path, size in linears.items() if path.rpartition(".")[2] in targets)
    return added / sum(d_out * d_in for d_out, d_in in linears.values())


def bound(rho: float, adapters: int, prefill_share: float) -> float:
    """Throughput beside the base model's that cannot be exceeded: prompts cost 1 + rho, answers 1 + K·rho.

    Args:
        adapters: K, each read by its own rows in a step of decoding.
        prefill_share: part of the base model's time that goes into prompts.
    """
    return 1 / (prefill_share * (1 + rho) + (1 - prefill_share) * (1 + adapters * rho))
