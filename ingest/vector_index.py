"""The in-memory index of one tenant: exact inner-product search over the vectors of its chunks.

Knows faiss, chunk numbers and which document they belong to. Knows no text and no storage; it is derived from
SQLite and can be thrown away at any time. Not safe for use from several threads at once: its owner holds a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]

_BYTES_PER_ID = 8
_BYTES_PER_ID_IN_MAP = 40  # faiss' id → row map


class VectorIndex:
    """Chunk numbers by the inner product of their vectors with a query's.

    Args:
        dimension: length of every vector.
    """

    def __init__(self, dimension: int) -> None:
        import faiss

        self._faiss: Any = faiss
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._numbers: dict[str, Numbers] = {}
        self.dimension = dimension

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def bytes(self) -> int:
        """About how much memory the index holds."""
        return len(self) * (self.dimension * 4 + 2 * _BYTES_PER_ID + _BYTES_PER_ID_IN_MAP)

    def add(self, document_id: str, numbers: Numbers, vectors: Vectors) -> None:
        """Add a document's chunks; a document that is there already is left as it is.

        Args:
            document_id: whose chunks they are.
            numbers: int64 ``[n]``, never used before.
            vectors: float32 ``[n, dimension]``.
        """
        if document_id in self._numbers:
            return
        self._numbers[document_id] = numbers
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), numbers)

    def remove(self, document_id: str) -> None:
        """Remove a document's chunks; nothing happens when it is not there."""
        numbers = self._numbers.pop(document_id, None)
        if numbers is not None and len(numbers):
            self._index.remove_ids(numbers)

    def search(
        self, vector: Vectors, count: int, documents: Iterable[str] | None = None
    ) -> tuple[list[int], list[float]]:
        """The ``count`` nearest chunks and their scores, best first; fewer when there are no more.

        Args:
            vector: float32 ``[dimension]``.
            count: how many at most.
            documents: search only in these; all when ``None``.
        """
        count = min(count, len(self))
        if count <= 0:
            return [], []
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, self.dimension)  # [1, d]
        if documents is None:
            scores, numbers = self._index.search(query, count)  # [1, count] each
        else:
            allowed = self._allowed(documents)
            if len(allowed) == 0:
                return [], []
            # One bit for each number: exact, and as fast for one document as for nearly all.
            mask = np.zeros(int(allowed.max()) // 8 * 8 + 8, dtype=bool)
            mask[allowed] = True
            selector = self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            parameters = self._faiss.SearchParameters(sel=selector)
            scores, numbers = self._index.search(query, min(count, len(allowed)), params=parameters)
        found = numbers[0] >= 0
        return numbers[0][found].tolist(), scores[0][found].tolist()

    def _allowed(self, documents: Iterable[str]) -> Numbers:
        pieces = [self._numbers[document] for document in documents if document in self._numbers]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
