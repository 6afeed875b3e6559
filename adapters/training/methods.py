"""How a base model is made trainable: one function per family of methods, one shape for what comes out.

Knows peft and the two methods peft does not have (bottleneck layers, full fine-tuning), which are saved in a folder of
the same two files. Knows no data and no loop.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import (
    AdaptionPromptConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.errors import InvalidTrainingData
from adapters.row_lora import linear_shapes
from adapters.training.settings import LOW_RANK, TrainingConfig

_HEADS = ("qa_outputs", "lm_head", "pooler.dense", "embed_out")
_PREFIX = "base_model.model."


class Adapted(Protocol):
    """A base with something to train in it. ``model`` is called in its place."""

    model: Any

    def state(self) -> dict[str, torch.Tensor]:
        """The trained tensors as they are saved."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        """Put saved tensors back; the names there was no place for."""

    def save(self, folder: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors``."""


def adapt(model: Any, config: TrainingConfig) -> Adapted:
    """Make a base trainable by a method. Its own weights stay as they are, but for full fine-tuning.

    Raises:
        InvalidTrainingData: the method does not apply to this base.
    """
    model.requires_grad_(False)
    reads = hasattr(model, "qa_outputs")
    if config.method == "full":
        return _Own(model, "FULL", _all_weights(model), {})
    if config.method == "bottleneck":
        return _with_bottlenecks(model, config)
    if config.method == "qlora":
        _quantise(model)
    return _Peft(get_peft_model(model, _peft_config(model, config, reads)))


class _Peft:
    def __init__(self, model: Any) -> None:
        self.model = model
        for parameter in model.parameters():
            if parameter.requires_grad:  # small updates vanish in bfloat16, which peft leaves LLaMA-Adapter in
                parameter.data = parameter.data.float()

    def state(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = get_peft_model_state_dict(self.model)
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        unexpected: list[str] = set_peft_model_state_dict(self.model, dict(state)).unexpected_keys
        return unexpected

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))


class _Own:
    """What peft has no name for, in the form of its folders.

    Args:
        trained: the tensors by their names in the saved file, without peft's prefix.
    """

    def __init__(
        self, model: Any, kind: str, trained: Mapping[str, torch.nn.Parameter], facts: Mapping[str, Any]
    ) -> None:
        self.model = model
        self._trained = dict(trained)
        reads = hasattr(model, "qa_outputs")
        self._config = {
            "peft_type": kind,
            "task_type": "QUESTION_ANS" if reads else "CAUSAL_LM",
            "base_model_name_or_path": getattr(model.config, "_name_or_path", ""),
            "inference_mode": True,
            "modules_to_save": ["qa_outputs"] if reads else None,
            **facts,
        }
        for parameter in self._trained.values():
            parameter.requires_grad_(True)

    def state(self) -> dict[str, torch.Tensor]:
        return {_PREFIX + name: tensor.detach().contiguous() for name, tensor in self._trained.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(state[_PREFIX + name])
        return sorted(set(state) - {_PREFIX + name for name in self._trained})

    def save(self, folder: Path) -> None:
        save_file(self.state(), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (folder / ADAPTER_CONFIG).write_text(json.dumps(self._config, indent=2, sort_keys=True) + "\n")


def _peft_config(model: Any, config: TrainingConfig, reads: bool) -> Any:
    task = {"task_type": TaskType.QUESTION_ANS if reads else TaskType.CAUSAL_LM}
    tokens = config.virtual_tokens
    if config.method in LOW_RANK:
        return LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.lora_dropout,
            target_modules=target_modules(model, config),
            use_rslora=config.method == "rslora",
            use_dora=config.method == "dora",
            **task,
        )
    if config.method == "ia3":
        into_feed_forward = feed_forward_outputs(model)
        targets = [name for name in linear_modules(model) if _is_attention(name) and _scales(name)]
        return IA3Config(target_modules=targets + into_feed_forward, feedforward_modules=into_feed_forward, **task)
    if config.method == "prompt":
        # Real tokens are where the model expects some (Lester et al. 2021); drawn numbers lie far outside.
        return PromptTuningConfig(num_virtual_tokens=tokens, prompt_tuning_init="SAMPLE_VOCAB", **task)
    if config.method == "p_tuning":
        return PromptEncoderConfig(num_virtual_tokens=tokens, encoder_hidden_size=model.config.hidden_size, **task)
    if config.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=tokens, **task)
    layers = model.config.num_hidden_layers
    if model.config.model_type not in ("llama", "mistral", "gpt2"):
        raise InvalidTrainingData(
            f"llama_adapter knows the attention of llama, mistral and gpt2 models, not of {model.config.model_type}. "
            "Use prefix, which puts learned tokens before every layer of any model."
        )
    return AdaptionPromptConfig(adapter_len=tokens, adapter_layers=max(1, layers - 1), **task)


def linear_modules(model: Any) -> list[str]:
    """Paths of the linear layers that an adapter may change, in order; heads are left alone."""
    return [name for name in linear_shapes(model) if not name.endswith(_HEADS)]


def target_modules(model: Any, config: TrainingConfig) -> list[str]:
    """Paths of the layers that the low-rank methods adapt. Raises InvalidTrainingData when there is none."""
    names = linear_modules(model)
    if config.targets == "attention":
        names = [name for name in names if _is_attention(name)]
    elif config.targets == "qv":
        names = [name for name in names if _is_attention(name) and _last(name) in _QUERIES_AND_VALUES]
    if not names:
        raise InvalidTrainingData(f"This base has no layers called as targets={config.targets} asks; use targets=all.")
    return names


# Models that compute queries, keys and values by one matrix cannot leave the keys out.
_QUERIES_AND_VALUES = frozenset({"query", "value", "q_proj", "v_proj", "q", "v", "c_attn", "query_key_value", "Wqkv"})
_SCALED = frozenset({"key", "value", "k_proj", "v_proj", "k", "v", "c_attn", "query_key_value", "Wqkv"})


def _scales(name: str) -> bool:
    return _last(name) in _SCALED


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _is_attention(name: str) -> bool:
    return "attn" in name or "attention" in name


def feed_forward_outputs(model: Any) -> list[str]:
    """Paths of the layers that end each feed-forward block: d_inner → d."""
    width = model.config.hidden_size
    return [
        name
        for name, (d_out, d_in) in linear_shapes(model).items()
        if d_out == width and d_in > width and not _is_attention(name)
    ]


class Bottleneck(torch.nn.Module):
    """A layer d → m → d beside the stream (Houlsby et al. 2019). The way up begins at zero, so it begins as nothing."""

    def __init__(self, d: int, m: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.down = torch.nn.Linear(d, m, dtype=dtype)
        self.up = torch.nn.Linear(m, d, dtype=dtype)
        torch.nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.down.weight.dtype)
        beside: torch.Tensor = self.up(torch.nn.functional.gelu(self.down(x)))  # [..., d]
        return x + beside


def _with_bottlenecks(model: Any, config: TrainingConfig) -> Adapted:
    paths = feed_forward_outputs(model)
    if not paths:
        raise InvalidTrainingData("This base has no feed-forward layers of a known form; use lora.")
    trained: dict[str, torch.nn.Parameter] = dict(_head(model))
    for path in paths:
        layer = Bottleneck(model.config.hidden_size, config.width, torch.float32)
        after = model.get_submodule(path)
        after.register_forward_hook(lambda _, __, out, layer=layer: layer(out).to(out.dtype))
        after.add_module("bottleneck", layer)  # whoever asks the model for its parameters finds these too
        for side in ("down", "up"):
            for name, parameter in getattr(layer, side).named_parameters():
                trained[f"{path}.bottleneck_{side}.{name}"] = parameter
    return _Own(
        model,
        "BOTTLENECK",
        trained,
        {"bottleneck_size": config.width, "non_linearity": "gelu", "target_modules": sorted(paths)},
    )


def _head(model: Any) -> dict[str, torch.nn.Parameter]:
    if not hasattr(model, "qa_outputs"):
        return {}
    return {f"qa_outputs.{name}": parameter for name, parameter in model.qa_outputs.named_parameters()}


def _all_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """Every weight once: tied ones are saved under their first name."""
    return dict(model.named_parameters())


def _quantise(model: Any) -> None:
    """Put every linear layer that is adapted into four bits, NormalFloat with double quantisation (Dettmers et al.
    2023). The optimizer only sees the adapter, so the base is read and never written."""
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise InvalidTrainingData(
            "qlora needs bitsandbytes, which is not installed: pip install 'lorebase[training]'."
        ) from error
    for path in linear_modules(model):
        old = model.get_submodule(path)
        if not isinstance(old, torch.nn.Linear):
            raise InvalidTrainingData(f"qlora cannot put a {type(old).__name__} into four bits; use lora.")
        new = Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=old.weight.dtype,
            quant_type="nf4",
        )
        new.weight = Params4bit(
            old.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=new
        )
        if old.bias is not None:
            new.bias = torch.nn.Parameter(old.bias.data, requires_grad=False)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, new.to("cpu"))
