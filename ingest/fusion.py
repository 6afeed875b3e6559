"""How the scores of dense and keyword search become one, and how alike passages are spread. Pure functions over arrays.

Fusion is a convex combination of scores, not of ranks (Bruch et al. 2023): where the query's words tell little, keyword
search is not as sure of its first rank, and a rank cannot say so. A BM25 score is set against the highest that the
query's terms could earn, so that it says what share of the query, weighed by rarity, a passage holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

KEYWORD_SHARE = 0.5
"""Share of the keyword score in the fused one; learned on SQuADShifts, flat from 0.4 to 0.6."""


def fuse(dense: Scores, keyword: Scores, ceiling: float) -> Scores:
    """Fused scores from 0 to 1.

    Args:
        dense: inner products of unit vectors, ``[n]``.
        keyword: BM25 scores, 0 where no word is shared, ``[n]``.
        ceiling: the highest BM25 score the query's terms could earn.
    """
    share = keyword / ceiling if ceiling > 0 else np.zeros_like(keyword)
    return (1 - KEYWORD_SHARE) * np.clip(dense, 0, 1) + KEYWORD_SHARE * np.clip(share, 0, 1)  # [n]


def diversify(relevance: Scores, vectors: NDArray[np.float32], diversity: float, count: int) -> list[int]:
    """The order of ``count`` items by maximal marginal relevance (Carbonell and Goldstein 1998).

    Args:
        relevance: from 0 to 1, ``[n]``.
        vectors: of length 1, float32 ``[n, dimension]``.
        diversity: 0 orders by relevance alone, 1 by unlikeness to what was chosen before.
    """
    likeness = np.clip(vectors @ vectors.T, 0, 1)  # [n, n]
    nearest = np.zeros(len(relevance))  # likeness to the most alike one chosen, [n]
    chosen: list[int] = []
    left = np.ones(len(relevance), dtype=bool)
    for _ in range(min(count, len(relevance))):
        gain = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)  # [n]
        # The first one is the most relevant, however much diversity is asked.
        best = int(gain.argmax()) if chosen else int(relevance.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, likeness[best])
    return chosen
