"""Where the answer stands: windows over long passages, and the best span from start and end scores.

Pure functions over arrays. A span's score is measured against the same window's no-answer score (position 0, Devlin et
al. 2019), which makes scores comparable between windows and between passages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``begin`` to ``end`` (half-open) of a passage."""

    begin: int
    end: int


def windows_of(length: int, room: int, stride: int) -> list[Window]:
    """Windows of at most ``room`` tokens that cover ``length`` tokens, each ``stride`` before the last one's end."""
    if length <= room:
        return [Window(0, length)]
    step = max(1, room - stride)
    starts = [*range(0, length - room, step), length - room]
    return [Window(start, start + room) for start in starts]


def best_span(
    start: Scores, end: Scores, first: int, last: int, longest: int, length_penalty: float = 0.0
) -> tuple[int, int, float]:
    """The best span inside tokens ``first`` to ``last`` (half-open) of one window.

    Args:
        start, end: scores per token of the window [T]; position 0 carries the no-answer score.
        longest: tokens a span may have at most.
        length_penalty: taken off for each token when spans are compared; the score returned is without it.

    Returns:
        First token, last token (inclusive), and the score above no answer.
    """
    s, e = start[first:last], end[first:last]  # [n], [n]
    total = s[:, None] + e[None, :]  # [n, n]
    n = len(s)
    tokens = np.arange(n)[None, :] - np.arange(n)[:, None]  # [n, n], of each span, less one
    allowed = (tokens >= 0) & (tokens < longest)
    flat = int(np.where(allowed, total - length_penalty * tokens, -np.inf).argmax())
    i, j = divmod(flat, n)
    return first + i, first + j, float(total[i, j] - start[0] - end[0])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns a span's score into the probability that it is right (Platt 1999): 1 / (1 + exp(-(slope·score + offset))).

    Attributes:
        min_confidence: below it the reader abstains.
        length_penalty: see `best_span`. It holds for the base, whose start and end scores are chosen one by one and
            so reach too far apart; an adapter brings its own idea of how long answers are.
    """

    slope: float
    offset: float
    min_confidence: float
    length_penalty: float = 0.0

    def confidence(self, score: float) -> float:
        """From 0 to 1."""
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.slope * score + self.offset))))
