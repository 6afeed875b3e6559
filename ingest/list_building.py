"""Inverted lists made of all rows of an index, and tuned on what searches of them must find.

Knows rows; no database and no thread.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ingest.inverted_lists import TRAINED_PER_LIST, TUNED_COUNT, InvertedLists, lists_for
from ingest.vector_index import Rows, Snapshot, Vectors

_ADDED_AT_ONCE = 8192  # nodes, between two looks at whether to go on
_TUNED_ON = 200  # passages, taken for queries
_SCORED_AT_ONCE = 65_536  # rows
_NEAR_COPY = 0.8  # cosine of two texts that say the same


def build_lists(rows: Snapshot, go_on: Callable[[], bool] = lambda: True) -> tuple[InvertedLists, Rows] | None:
    """Lists of the rows that are not dead, and the row of each node, int64 ``[nodes]``; ``None`` when told to stop.

    Args:
        rows: at least one that is not dead; they stay in their places meanwhile.
        go_on: asked between portions.
    """
    count = lists_for(rows.alive)
    chosen = np.linspace(0, rows.count - 1, min(rows.count, count * TRAINED_PER_LIST)).astype(np.int64)
    lists, nodes = InvertedLists(rows.live(chosen)[1], count), []
    for start in range(0, rows.count, _ADDED_AT_ONCE):
        if not go_on():
            return None
        live, vectors = rows.live(np.arange(start, min(start + _ADDED_AT_ONCE, rows.count)))
        lists.add(rows.numbers[live], vectors)
        nodes.append(live)
    node_rows = np.concatenate(nodes)
    passages = rows.live(chosen[:: max(1, len(chosen) // _TUNED_ON)])[1]
    nearest = _nearest_others(rows, passages)
    of, place = np.nonzero(nearest >= 0)
    if len(of):
        lists.tune(passages, rows.vectors[nearest[of, place]], of)
    return lists, node_rows


def _nearest_others(rows: Snapshot, passages: Vectors) -> Rows:
    """The rows truly nearest to each passage, but for itself and near copies of it, which all lie in the first list
    looked into: what a query would find that is like it. int64 ``[passages, TUNED_COUNT]``, -1 where there are no
    more."""
    best = np.full((len(passages), TUNED_COUNT), -np.inf, dtype=np.float32)
    nearest = np.full(best.shape, -1, dtype=np.int64)
    for start in range(0, rows.count, _SCORED_AT_ONCE):
        part = rows.vectors[start : min(start + _SCORED_AT_ONCE, rows.count)]  # [n, d]
        scores: NDArray[np.float32] = passages @ part.T  # [passages, n]
        other = scores < _NEAR_COPY  # never so for a dead row, which is NaN
        scores = np.hstack([best, np.where(other, scores, -np.inf)])
        found = np.hstack([nearest, np.where(other, np.arange(start, start + len(part)), -1)])
        order = np.argpartition(-scores, TUNED_COUNT - 1, axis=1)[:, :TUNED_COUNT]
        best, nearest = np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)
    return nearest
