"""The vectors of questions asked before, so that a question asked again costs no run of the model.

Knows an embedder. One cache belongs to one corpus: how fast an answer comes tells nobody what another tenant asked.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from ingest.embedding import Embedder


class QueryCache:
    """Embeds questions and keeps the vectors of the ones used last. Safe to use from any thread.

    Args:
        embedder: makes the vectors.
        capacity: how many questions are kept; at 384 dimensions each takes about 2 kB.
    """

    def __init__(self, embedder: Embedder, capacity: int = 256) -> None:
        if capacity < 1:
            raise ValueError("the capacity must be 1 or more")
        self._embedder = embedder
        self._capacity = capacity
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()  # never held while the model works

    def vector(self, question: str) -> NDArray[np.float32]:
        """The question's vector, float32 ``[dimension]`` of length 1, not to be written to.

        Raises:
            EmbedderUnavailable: the embedding model cannot be loaded.
        """
        key = (self._embedder.fingerprint, question)
        with self._lock:
            if key in self._vectors:
                self._vectors.move_to_end(key)
                return self._vectors[key]
        vector: NDArray[np.float32] = self._embedder.encode([question])[0]  # [d]
        vector.flags.writeable = False
        with self._lock:
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            while len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
        return vector
