"""Any cross-encoder of the sentence-transformers family as a reranker (`ingest.retrieval.Reranker`).

Knows sentence-transformers, which is loaded when first used. Knows no passage and no storage.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ingest.errors import RerankerUnavailable


class CrossEncoderReranker:
    """A cross-encoder by its name.

    Args:
        model: a folder or a Hugging Face hub id; it must have one output per pair.
    """

    fused_weight = 0.0  # it decides alone

    def __init__(self, model: str) -> None:
        self._name = model
        self._lock = threading.Lock()
        self._model: Any = None

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """The model's logit for each text with the query; pairs of similar length are read together.

        Raises:
            RerankerUnavailable: the model cannot be loaded, or has another number of outputs.
        """
        with self._lock:
            model = self._loaded()
            if not texts:
                return []
            pairs = [(_storable(query), _storable(text)) for text in texts]
            scores = model.predict(pairs, activation_fn=_identity, convert_to_numpy=True, show_progress_bar=False)
        return [float(score) for score in scores]  # [n]

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import CrossEncoder

                model = CrossEncoder(self._name)
            except Exception as error:
                raise RerankerUnavailable(f"the reranker {self._name!r} cannot be loaded: {error}") from error
            if model.num_labels != 1:
                raise RerankerUnavailable(
                    f"{self._name!r} has {model.num_labels} outputs for a pair; a reranker has one: set "
                    "LOREBASE_RERANKER to another model"
                )
            self._model = model
        return self._model


def _identity(logits: Any) -> Any:
    return logits


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
