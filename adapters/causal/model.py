"""Load a causal language model from a folder or the Hugging Face hub, and say plainly why it cannot be loaded.

Knows files, the hub's client and transformers' loaders; knows no adapters, no prompts, no requests. Never runs code
that comes with a model and reads weights from safetensors only.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from adapters.adapter_files import ADAPTER_CONFIG, sha256_of
from adapters.errors import ModelUnavailable
from adapters.quantized import quantize
from adapters.row_lora import linear_shapes

_log = logging.getLogger(__name__)
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
_NO_LIMIT = 1 << 20  # tokenizers without a limit of their own say 1e30


@dataclass(frozen=True, eq=False)
class CausalModel:
    """A language model in memory, in eval mode, without gradients.

    Attributes:
        fingerprint: hash of the configuration and the weight files.
        context: tokens it can hold, prompt and answer together.
        eos_ids: tokens that end an answer.
        linears: (d_out, d_in) of each layer an adapter can target, by module path.
        vocabulary: token ids that the model knows.
        encoder_decoder: it encodes the prompt and decodes the answer, such as T5.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str
    context: int
    eos_ids: frozenset[int]
    pad_id: int
    linears: Mapping[str, tuple[int, int]]
    vocabulary: int
    encoder_decoder: bool = False

    @cached_property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @cached_property  # the model looks through its layers for it, and every step asks
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype


def load_causal_model(
    model: str | Path, *, dtype: str = "auto", device: str = "auto", quantized: str = "none"
) -> CausalModel:
    """Load a model and its tokenizer.

    Args:
        model: a local folder, or a hub id such as ``Qwen/Qwen3-0.6B``.
        dtype: ``auto`` (what the files hold), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto`` (the first GPU, else the CPU) or a torch device.
        quantized: ``none``, ``int8`` or ``nf4``: see `adapters.quantized`.

    Raises:
        ModelUnavailable: what is missing, and what to do about it.
    """
    folder = _folder_of(model)
    _check_files(folder)
    network = _load_network(folder, dtype)
    tokenizer = _load_tokenizer(folder)
    eos_ids = _eos_ids(network, tokenizer)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(eos_ids, default=0)
    # The model's own sampling defaults would be mixed into every request; answers here are greedy.
    network.generation_config = GenerationConfig(eos_token_id=sorted(eos_ids) or None, pad_token_id=pad_id)
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        network = network.to(wanted)
    except RuntimeError as error:
        raise ModelUnavailable(f"The model does not go onto the device {wanted!r}: {error}") from error
    linears = linear_shapes(network)
    quantize(network, quantized)
    _log.info(
        "%s computes in %s (%s) on %s (%s), weights quantised: %s",
        folder.name,
        str(network.dtype).removeprefix("torch."),
        "as its files are stored" if dtype == "auto" else "as set",
        wanted,
        "as set" if device != "auto" else "the first GPU" if wanted == "cuda" else "there is no GPU",
        quantized,
    )
    return CausalModel(
        model=network.eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=folder.name if Path(model).expanduser().is_dir() else str(model),
        fingerprint=_fingerprint(folder),
        context=_context(network, tokenizer),
        eos_ids=eos_ids,
        pad_id=pad_id,
        linears=linears,
        vocabulary=network.get_input_embeddings().num_embeddings,
        encoder_decoder=bool(network.config.is_encoder_decoder),
    )


def _folder_of(model: str | Path) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if isinstance(model, Path) or model.startswith(("/", ".", "~")) or model.count("/") > 1:
        raise ModelUnavailable(f"There is no folder {model}. Give a folder with a model in it, or a hub id.")
    try:
        return Path(snapshot_download(model, allow_patterns=_WANTED, ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise ModelUnavailable(f"{model} asks for a licence to be accepted on the hub, and for HF_TOKEN.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"There is no folder {model} here and no such model on the hub.") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnavailable(
            f"{model} is not on this machine and the hub cannot be reached ({type(error).__name__}). "
            "Download the model elsewhere and give its folder."
        ) from error


def _check_files(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER_CONFIG).is_file():
            raise ModelUnavailable(f"{folder} holds an adapter. Give its base model, and upload the adapter.")
        raise ModelUnavailable(f"{folder} has no config.json: it is not a Hugging Face model folder.")
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelUnavailable(f"{folder} holds an adapter beside a model: move {ADAPTER_CONFIG} elsewhere.")
    if not any(folder.glob("*.safetensors")):
        raise ModelUnavailable(f"{folder} has no .safetensors weights. Pickled weights are not opened; convert them.")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelUnavailable(f"{folder} has no tokenizer. Save it there: tokenizer.save_pretrained(folder).")


def _load_network(folder: Path, dtype: str) -> Any:
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ModelUnavailable(f"dtype must be auto, float32, bfloat16 or float16, not {dtype!r}.")
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # it would stand between the lines of a service's log
    kind = AutoModelForSeq2SeqLM if _is_encoder_decoder(folder) else AutoModelForCausalLM
    try:
        network, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds here, and a broken model must not look like a bug
        raise ModelUnavailable(f"The model in {folder} cannot be loaded: {error}") from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ModelUnavailable(
            f"{folder} lacks {len(missing)} weights of a language model, such as {missing[0]}: "
            "is it an encoder, or an unfinished download?"
        )
    return network


def _is_encoder_decoder(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{folder}/config.json cannot be read: {error}") from error
    return isinstance(config, dict) and bool(config.get("is_encoder_decoder"))


def _load_tokenizer(folder: Path) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer.encode("probe")
    except Exception as error:
        raise ModelUnavailable(f"The tokenizer in {folder} cannot be loaded: {error}") from error
    return tokenizer


def _eos_ids(network: Any, tokenizer: Any) -> frozenset[int]:
    of_model = network.generation_config.eos_token_id if network.generation_config else None
    listed = of_model if isinstance(of_model, list) else [of_model]
    return frozenset(i for i in [*listed, tokenizer.eos_token_id] if i is not None)


def _context(network: Any, tokenizer: Any) -> int:
    config = network.config.get_text_config()
    declared = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")]
    declared.append(_fixed_positions(config))
    limits = [n for n in [*declared, tokenizer.model_max_length] if isinstance(n, int) and 0 < n < _NO_LIMIT]
    return min(limits, default=2048)


def _fixed_positions(config: Any) -> int | None:
    """Tokens up to which a position means the same whatever else is in the batch. Some models scale their positions by
    the longest row they see; beyond this length a row's answer would depend on who shares its batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        return None
    original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    return int(original)


def _fingerprint(folder: Path) -> str:
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(sha256_of(path) for path in files).encode()).hexdigest()
