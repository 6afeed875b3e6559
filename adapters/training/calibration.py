"""From span scores to confidence, and the threshold below which the reader abstains.

Fits Platt's sigmoid on questions the reader was not trained on, then picks the threshold with the best F1 when half of
the questions have no answer. Knows scores and correctness; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from adapters.spans import Calibration


def calibrate(
    scores: Sequence[float], f1: Sequence[float], answerable: Sequence[bool], length_penalty: float = 0.0
) -> Calibration:
    """Fit confidence and threshold, for spans chosen with ``length_penalty``.

    Args:
        scores: the best span's score above no answer, per question.
        f1: token F1 of that span, 0 for an unanswerable question.
        answerable: whether the question has an answer.
    """
    score = np.asarray(scores, dtype=np.float64)  # [n]
    overlap = np.asarray(f1, dtype=np.float64)  # [n]
    has_answer = np.asarray(answerable, dtype=bool)  # [n]
    weight = np.where(has_answer, 0.5 / max(1, has_answer.sum()), 0.5 / max(1, (~has_answer).sum()))  # [n]
    fit = LogisticRegression().fit(score[:, None], overlap > 0.5, sample_weight=weight * len(score))
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    thresholds = np.quantile(score, np.linspace(0, 1, 201))
    gains = [(weight * np.where(score >= t, overlap, ~has_answer)).sum() for t in thresholds]
    best = float(thresholds[int(np.argmax(gains))])
    unrounded = Calibration(slope, offset, 0.0)
    return Calibration(round(slope, 4), round(offset, 4), round(unrounded.confidence(best), 4), length_penalty)
