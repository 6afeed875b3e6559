"""The embedder of the service on most processors: a sentence-transformers folder, run by OpenVINO.

Its vectors are those of `SentenceTransformerEmbedder` (cosine above 0.9999, in bfloat16 too), so both share a
fingerprint and stored vectors stay valid whichever made them. Knows tokenizers and the files of a sentence-transformers
folder; knows no torch. What it cannot read exactly it refuses, and `make_embedder` takes torch.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ingest.embedding import (
    Embedder,
    SentenceTransformerEmbedder,
    Vectors,
    folder_fingerprint,
    model_location,
    without_surrogates,
)
from ingest.errors import EmbedderUnavailable
from ingest.openvino_encoder import OpenVINOEncoder, Pooling, load_openvino, unsupported

Backend = Literal["auto", "openvino", "torch"]
_WEIGHTS = "model.safetensors"
_TOKENIZER = "tokenizer.json"
_POOLINGS: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}

_log = logging.getLogger(__name__)


def make_embedder(model: str | None = None, backend: Backend = "auto") -> Embedder:
    """The embedder for a model; which backend runs it, and why, is logged.

    Args:
        model: a sentence-transformers folder or a Hugging Face hub id; ``None`` for the packaged MiniLM.
        backend: ``auto`` takes OpenVINO where it is installed and can run the model, else torch.
    """
    if backend == "torch":
        return SentenceTransformerEmbedder(model)
    if backend == "openvino":
        return OpenVINOEmbedder(model)
    if (reason := _why_not(model)) is not None:
        _log.info("texts are embedded by torch: %s", reason)
        return SentenceTransformerEmbedder(model)
    return OpenVINOEmbedder(model)


class OpenVINOEmbedder:
    """An embedder that OpenVINO runs. Loads when the first text is embedded.

    Args:
        model: a sentence-transformers folder; ``None`` for the packaged MiniLM.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor multiplies it natively.
        threads: ``None`` for one per core.
    """

    def __init__(self, model: str | None = None, precision: str = "auto", threads: int | None = None) -> None:
        self._name = model
        self._precision = precision
        self._threads = threads
        self._lock = threading.Lock()  # loading only; the encoder takes calls from any thread
        self._loaded: tuple[OpenVINOEncoder, Any] | None = None
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """``sha256:…`` over the model's files, the same as torch's embedder has.

        Raises:
            EmbedderUnavailable: the model is not there.
        """
        with self._lock:
            if self._fingerprint is None:
                location = model_location(self._name)
                if (reason := _why_not(self._name)) is not None:
                    raise self._unavailable(reason)
                self._fingerprint = folder_fingerprint(Path(location))
            return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of every vector; loads the model.

        Raises:
            EmbedderUnavailable: the model cannot be loaded.
        """
        return self._load()[0].dimension

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, float32 ``[len(texts), dimension]``, each of length 1.

        Raises:
            EmbedderUnavailable: the model cannot be loaded.
        """
        encoder, tokenizer = self._load()
        encoded = tokenizer.encode_batch([without_surrogates(text).strip() for text in texts])
        return encoder.pooled([each.ids for each in encoded])

    def _load(self) -> tuple[OpenVINOEncoder, Any]:
        with self._lock:
            if self._loaded is None:
                if (reason := _why_not(self._name)) is not None:
                    raise self._unavailable(reason)
                folder = Path(model_location(self._name))
                try:
                    self._loaded = _loaded(folder, self._precision, self._threads)
                except Exception as error:
                    raise self._unavailable(str(error)) from error
                _log.info("texts are embedded by OpenVINO in %s", self._loaded[0].precision)
            return self._loaded

    def _unavailable(self, reason: str) -> EmbedderUnavailable:
        return EmbedderUnavailable(
            f"the embedding model {self._name or 'MiniLM'!r} cannot be run by OpenVINO: {reason}; set "
            "LOREBASE_EMBEDDING_BACKEND to `auto` or `torch`"
        )


def _loaded(folder: Path, precision: str, threads: int | None) -> tuple[OpenVINOEncoder, Any]:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    config = _json(folder / "config.json")
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_longest(folder, config))
    weights = {name: np.asarray(values) for name, values in load_file(folder / _WEIGHTS).items()}
    return OpenVINOEncoder(weights, config, _pooling(folder) or "mean", precision, threads), tokenizer


def _why_not(model: str | None) -> str | None:
    """Why OpenVINO cannot run a model exactly as sentence-transformers does; ``None`` when it can."""
    folder = Path(model_location(model))
    if not folder.is_dir():
        return f"{str(folder)!r} is no folder; name the folder the model lies in"
    if not all((folder / name).is_file() for name in ("config.json", "modules.json", _WEIGHTS, _TOKENIZER)):
        return f"{str(folder)!r} lacks config.json, modules.json, {_TOKENIZER} or {_WEIGHTS}"
    try:
        load_openvino()
    except ImportError as error:
        return f"openvino is not installed: {error}"
    try:
        return _unlike(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its configuration cannot be read: {error!r}"


def _unlike(folder: Path) -> str | None:
    """What of a folder's configuration goes beyond encoder, pooling and normalisation; ``None`` when nothing does."""
    if (reason := unsupported(_json(folder / "config.json"))) is not None:
        return reason
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in _json(folder / "modules.json")]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return f"its modules are {', '.join(kinds)}"
    if _pooling(folder) is None:
        return "its pooling is neither the mean nor the first token alone"
    if _json(folder / "sentence_bert_config.json", {}).get("do_lower_case"):
        return "its texts are lowered before the tokenizer"
    if _json(folder / "config_sentence_transformers.json", {}).get("default_prompt_name"):
        return "its texts are given a prompt"
    return None


def _pooling(folder: Path) -> Pooling | None:
    path = next(module["path"] for module in _json(folder / "modules.json") if str(module["type"]).endswith("Pooling"))
    config = _json(folder / path / "config.json")
    if "pooling_mode" in config:  # sentence-transformers 6
        named = config["pooling_mode"]
        named = [named] if isinstance(named, str) else named
        chosen = [_POOLINGS.get(f"pooling_mode_{name}_tokens" if name == "mean" else "pooling_mode_cls_token")
                  if name in ("mean", "cls") else None for name in named]  # fmt: skip
    else:
        chosen = [_POOLINGS.get(name) for name, on in config.items() if name.startswith("pooling_mode_") and on]
    return chosen[0] if len(chosen) == 1 else None


def _longest(folder: Path, config: dict[str, Any]) -> int:
    """How many tokens of a text are read, as sentence-transformers decides it."""
    stated = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    if stated is not None:
        return int(stated)
    most = _json(folder / "tokenizer_config.json", {}).get("model_max_length", config["max_position_embeddings"])
    return int(min(most, config["max_position_embeddings"]))


def _json(path: Path, absent: Any = None) -> Any:
    if absent is not None and not path.is_file():
        return absent
    return json.loads(path.read_text(encoding="utf-8"))
