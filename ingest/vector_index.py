"""The in-memory index of one tenant: the vectors of its chunks, searched exactly or by inverted lists.

Knows faiss, chunk numbers and which document they belong to. Knows no text, no storage and no thread of its own; it is
derived from SQLite and can be thrown away at any time.

Searches take no lock: they work on one snapshot of the rows, which changes never disturb. A change writes what no
snapshot can see yet, then publishes a new one. A deleted row is overwritten with NaN, which no comparison ranks, so
deleting costs what the document's own rows cost; the rows are closed up once a quarter of them is dead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ingest.faiss_threads import one_thread
from ingest.inverted_lists import InvertedLists
from ingest.vector_store import StoredVectors

Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_DEAD_SHARE = 0.25  # of the rows, from which they are closed up
_FEWEST_DEAD = 256  # below this closing up is not worth it
_GROWTH = 1.25
_GATHER_SHARE = 0.25  # of the rows: fewer are gathered and multiplied, more are picked from the product with all
_GATHERED_AT_ONCE = 4096  # rows, 6 MiB at 384 dimensions
_LISTS_FILTER_SHARE = 0.5  # a filter that leaves fewer rows is searched exactly: lists would lose recall
_MOST_FROM_LISTS = 500  # passages; more are searched exactly
_BYTES_PER_DOCUMENT = 300  # id, range and their place in the map


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows at one moment, as one search sees them, or whoever builds lists over them.

    Attributes:
        vectors: float32 ``[capacity, dimension]``; rows from ``count`` on are not there yet.
        numbers: int64 ``[capacity]``, the chunk of each row.
        documents: the rows of each document; may hold later ones, whose rows lie beyond ``count``.
        lists: candidates among the rows below ``covered``; ``None`` while all searches are exact.
        node_rows: int64 ``[nodes]``, the row of each node of the lists, -1 for one that was deleted.
    """

    vectors: Vectors
    numbers: Numbers
    documents: dict[str, range]
    count: int = 0
    dead: int = 0
    lists: InvertedLists | None = None
    node_rows: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    covered: int = 0

    @property
    def alive(self) -> int:
        """How many rows are not dead."""
        return self.count - self.dead

    def live(self, rows: Rows) -> tuple[Rows, Vectors]:
        """Those of ``rows`` that are not dead, int64 ``[n]``, and a copy of them, float32 ``[n, dimension]``."""
        vectors = self.vectors[rows]
        alive = ~np.isnan(vectors).any(axis=1)  # [n]; a row that is being deleted right now is dead too
        return rows[alive], vectors[alive]


class VectorIndex:
    """Chunk numbers by the inner product of their vectors with a query's. Safe to use from any thread.

    Args:
        dimension: length of every vector.
        rows: what to begin with, kept and not copied; nothing unless given.
    """

    def __init__(self, dimension: int, rows: StoredVectors | None = None) -> None:
        self._changing = threading.Lock()
        self._keep_rows = False  # while lists are built over them
        if rows is None:
            rows = StoredVectors(np.empty(0, dtype=np.int64), np.empty((0, dimension), dtype=np.float32), {})
        count = max((each.stop for each in rows.documents.values()), default=0)
        dead = count - sum(map(len, rows.documents.values()))
        self._now = Snapshot(rows.vectors, rows.numbers, dict(rows.documents), count, dead)

    def __len__(self) -> int:
        return self._now.alive

    @property
    def bytes(self) -> int:
        """About how much memory the index holds."""
        now = self._now
        lists = now.lists.bytes + now.node_rows.nbytes if now.lists is not None else 0
        return now.vectors.nbytes + now.numbers.nbytes + len(now.documents) * _BYTES_PER_DOCUMENT + lists

    def add(self, document_id: str, numbers: Numbers, vectors: Vectors) -> None:
        """Add a document's chunks; a document that is there already is left as it is.

        Args:
            document_id: whose chunks they are.
            numbers: int64 ``[n]``, never used before.
            vectors: float32 ``[n, dimension]``.
        """
        with self._changing:
            now = self._now
            if document_id in now.documents:
                return
            end = now.count + len(numbers)
            if end > len(now.numbers):
                now = _with_capacity(now, max(end, int(now.count * _GROWTH)))
            now.vectors[now.count : end] = vectors
            now.numbers[now.count : end] = numbers
            now.documents[document_id] = range(now.count, end)
            self._now = replace(now, count=end)

    def remove(self, document_id: str) -> None:
        """Remove a document's chunks; nothing happens when it is not there."""
        with self._changing:
            now = self._now
            rows = now.documents.pop(document_id, None)
            if rows is None:
                return
            now.vectors[rows.start : rows.stop] = np.nan
            self._now = replace(now, dead=now.dead + len(rows))
            self._close_up()

    def numbers_of(self, document_id: str) -> tuple[int, int] | None:
        """The first and last number of a document's chunks; None when it is not here, or has none."""
        with self._changing:
            rows = self._now.documents.get(document_id)
            if not rows:
                return None
            return int(self._now.numbers[rows.start]), int(self._now.numbers[rows.stop - 1])

    def search(
        self, vector: Vectors, count: int, documents: Iterable[str] | None = None
    ) -> tuple[list[int], list[float]]:
        """The ``count`` nearest chunks and their scores, best first; fewer when there are no more.

        Exact, unless lists are attached and neither the filter is restrictive nor ``count`` large: then the scores
        are exact and nearly all of the nearest are found, and still never fewer than there are.

        Args:
            vector: float32 ``[dimension]``.
            count: how many at most.
            documents: search only in these; all when ``None``.
        """
        now = self._now
        query = np.ascontiguousarray(vector, dtype=np.float32)  # [d]
        if documents is None:
            count = min(count, now.alive)
            if count <= 0:
                return [], []
            found = _from_lists(now, query, count, None) if now.lists is not None else None
            return _answer(now, *(found or _exact(now, query, count, 0)))
        allowed = _rows_of(now, documents)
        count = min(count, len(allowed))
        if count <= 0:
            return [], []
        found = None
        if now.lists is not None and len(allowed) >= _LISTS_FILTER_SHARE * now.count:
            found = _from_lists(now, query, count, allowed)
        return _answer(now, *(found or _exact_among(now, query, count, allowed)))

    def snapshot(self) -> Snapshot:
        """The rows as they are now; later changes add rows behind them and make rows of them NaN."""
        return self._now

    def begin_lists(self) -> Snapshot:
        """The rows for lists to be built or extended over; they stay in their places until ``end_lists``."""
        with self._changing:
            self._keep_rows = True
            return self._now

    def attach_lists(self, lists: InvertedLists | None, rows: Rows, covered: int) -> None:
        """Search through ``lists`` from here on. Only between ``begin_lists`` and ``end_lists``.

        Args:
            lists: ``None`` for exact searches again.
            rows: int64 ``[nodes]``, the row of each node, -1 for none.
            covered: rows below this are in the lists or dead; the others are searched exactly beside them.
        """
        with self._changing:
            self._now = replace(self._now, lists=lists, node_rows=rows, covered=covered)

    def end_lists(self) -> None:
        """Rows may be moved again."""
        with self._changing:
            self._keep_rows = False
            self._close_up()

    def _close_up(self) -> None:
        """Drop the dead rows once they are many; the caller holds the lock."""
        now = self._now
        if self._keep_rows or now.dead < max(_FEWEST_DEAD, _DEAD_SHARE * now.count):
            return
        kept = _rows_of(now, now.documents)  # [alive], ascending: documents are in the order they came
        moved = np.full(now.count + 1, -1, dtype=np.int64)  # the last one answers for -1
        moved[kept] = np.arange(len(kept))
        documents = {
            document: range(int(moved[rows.start]), int(moved[rows.start]) + len(rows)) if rows else range(0)
            for document, rows in now.documents.items()
        }
        self._now = replace(
            now,
            vectors=now.vectors[kept],
            numbers=now.numbers[kept],
            documents=documents,
            count=len(kept),
            dead=0,
            node_rows=moved[now.node_rows],
            covered=int(np.searchsorted(kept, now.covered)),
        )


def _with_capacity(now: Snapshot, capacity: int) -> Snapshot:
    vectors = np.empty((capacity, now.vectors.shape[1]), dtype=np.float32)
    numbers = np.empty(capacity, dtype=np.int64)
    vectors[: now.count] = now.vectors[: now.count]
    numbers[: now.count] = now.numbers[: now.count]
    return replace(now, vectors=vectors, numbers=numbers)


def _rows_of(now: Snapshot, documents: Iterable[str]) -> Rows:
    """int64 ``[n]``: the rows of documents, each document once."""
    ranges = [
        rows
        for document in dict.fromkeys(documents)
        if (rows := now.documents.get(document)) is not None and rows.stop <= now.count
    ]
    lengths = np.fromiter((len(rows) for rows in ranges), dtype=np.int64, count=len(ranges))
    starts = np.fromiter((rows.start for rows in ranges), dtype=np.int64, count=len(ranges))
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def _exact(now: Snapshot, query: Vectors, count: int, first: int) -> tuple[Rows, Vectors]:
    """The nearest of the rows from ``first`` on: rows and scores, best first."""
    import faiss

    count = min(count, now.count - first)
    if count <= 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    with one_thread():
        scores, rows = faiss.knn(
            query.reshape(1, -1), now.vectors[first : now.count], count, metric=faiss.METRIC_INNER_PRODUCT
        )  # [1, count] each; NaN is never among them
    found = rows[0] >= 0
    return rows[0][found] + first, scores[0][found]


def _exact_among(now: Snapshot, query: Vectors, count: int, allowed: Rows) -> tuple[Rows, Vectors]:
    """The nearest of the allowed rows: rows and scores, best first."""
    if len(allowed) >= _GATHER_SHARE * now.count:
        scores = (now.vectors[: now.count] @ query)[allowed]  # [n]
    else:
        scores = np.empty(len(allowed), dtype=np.float32)
        for start in range(0, len(allowed), _GATHERED_AT_ONCE):
            part = allowed[start : start + _GATHERED_AT_ONCE]
            scores[start : start + len(part)] = now.vectors[part] @ query
    return _best(allowed, scores, count)


def _from_lists(now: Snapshot, query: Vectors, count: int, allowed: Rows | None) -> tuple[Rows, Vectors] | None:
    """As ``_exact`` or ``_exact_among``, from the lists and the rows they do not cover yet; ``None`` when they cannot
    tell ``count`` rows."""
    assert now.lists is not None  # noqa: S101
    share = 1.0 if allowed is None else len(allowed) / now.count
    if count > _MOST_FROM_LISTS:
        return None
    nodes = now.lists.candidates(query, int(count / share))
    rows = now.node_rows[nodes[nodes < len(now.node_rows)]]
    rows = rows[rows >= 0]
    scores = now.vectors[rows] @ query
    later, later_scores = _exact(now, query, now.count - now.covered if allowed is not None else count, now.covered)
    rows, scores = np.concatenate([rows, later]), np.concatenate([scores, later_scores])
    if allowed is not None:
        may = np.zeros(now.count, dtype=bool)
        may[allowed] = True
        rows, scores = rows[may[rows]], scores[may[rows]]
    rows, scores = _best(rows, scores, count)
    return (rows, scores) if len(rows) == count else None


def _best(rows: Rows, scores: Vectors, count: int) -> tuple[Rows, Vectors]:
    """The ``count`` best of some rows, best first, without the dead."""
    alive = ~np.isnan(scores)
    rows, scores = rows[alive], scores[alive]
    if count < len(rows):
        chosen = np.argpartition(scores, len(rows) - count)[len(rows) - count :]
        rows, scores = rows[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


def _answer(now: Snapshot, rows: Rows, scores: Vectors) -> tuple[list[int], list[float]]:
    return now.numbers[rows].tolist(), scores.tolist()
