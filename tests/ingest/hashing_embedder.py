"""An embedder without a model: hashed bags of words. Honest in that shared words, and only they, bring texts close."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class HashingEmbedder:
    """Deterministic unit vectors from words."""

    def __init__(self, dimension: int = 256, name: str = "hashing") -> None:
        self.dimension = dimension
        self.fingerprint = f"{name}:{dimension}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 ``[len(texts), dimension]``, each of length 1."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)  # [n, d]
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                vectors[row, zlib.crc32(word.encode("utf-8", "replace")) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
