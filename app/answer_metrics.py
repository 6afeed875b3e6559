"""The metrics of answers and retrieval, as functions over plain data.

EM and F1 are those of the official SQuAD scripts, in percent; recall@k is the share of answerable questions with a
passage among the first k that overlaps a gold answer. Knows no service and no model.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.squad import exact_match, f1_score
from app.schemas import PassageResponse

RECALL_AT = (1, 5, 20)
DEPTH = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer stands: half-open, in code points of a document's text."""

    document: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold answer: its text, and the places where it stands. No places: it is matched by its text."""

    text: str
    places: tuple[Place, ...] = ()


class Judged(Protocol):
    """An outcome, as far as abstention is concerned; no ``golds``: the question has no answer."""

    @property
    def golds(self) -> tuple[str, ...]: ...

    @property
    def abstained(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the service made of one question.

    Attributes:
        golds: the gold answers' texts; empty for an unanswerable question.
        rank: of the first passage, from 1, that holds an answer; None if none of the first 20 does.
        milliseconds: of ``/ask`` as the client sees it.
        refused: the service refused the question (too long, say): no answer, and no abstention either.
    """

    golds: tuple[str, ...]
    answer: str
    abstained: bool
    milliseconds: float
    rank: int | None = None
    refused: bool = False

    @property
    def em(self) -> float:
        return 0.0 if self.refused else exact_match(self.answer, self.golds)

    @property
    def f1(self) -> float:
        return 0.0 if self.refused else f1_score(self.answer, self.golds)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one evaluation. EM and F1 in percent, the rest as fractions; None where undefined."""

    n: int
    em: float
    f1: float
    f1_low: float
    f1_high: float
    recall: dict[int, float] | None
    mrr: float | None
    abstain_precision: float | None
    abstain_recall: float | None
    p50_ms: float
    p95_ms: float
    refused: int


def places_of(text: str, start: int, context: str, document: str, offset: int) -> tuple[Place, ...]:
    """Where a gold answer stands in its document.

    Args:
        start: where the set says it stands in ``context``. If it does not, every occurrence in ``context`` counts.
        offset: of ``context`` in the document.

    Returns:
        No places if the context does not hold the text at all.
    """
    true_start = bool(text) and start >= 0 and context.startswith(text, start)
    starts = [start] if true_start else list(_occurrences(text, context))
    return tuple(Place(document, offset + s, offset + s + len(text)) for s in starts)


def holds(passage: PassageResponse, gold: Gold) -> bool:
    """Whether a passage overlaps a gold answer's place; without places, whether it contains the answer's text."""
    if not gold.places:
        return bool(gold.text) and gold.text in passage.text
    return any(
        passage.document_id == place.document and passage.start < place.end and place.start < passage.end
        for place in gold.places
    )


def first_rank(passages: Sequence[PassageResponse], golds: Sequence[Gold]) -> int | None:
    """The rank, from 1, of the first of 20 passages that holds a gold answer."""
    for rank, passage in enumerate(passages[:DEPTH], 1):
        if any(holds(passage, gold) for gold in golds):
            return rank
    return None


def recall_at(ranks: Sequence[int | None], k: int) -> float | None:
    """The share of ranks that are k or better; None for no ranks."""
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks) if ranks else None


def mean_reciprocal_rank(ranks: Sequence[int | None]) -> float | None:
    """The mean of 1/rank, 0 where nothing was found; None for no ranks."""
    return sum(1 / rank for rank in ranks if rank is not None) / len(ranks) if ranks else None


def abstention(outcomes: Sequence[Judged]) -> tuple[float | None, float | None]:
    """Precision: the share of abstentions that were on unanswerable questions.
    Recall: the share of unanswerable questions that were abstained on. None where there are none."""
    abstained = [not o.golds for o in outcomes if o.abstained]
    unanswerable = [o.abstained for o in outcomes if not o.golds]
    precision = sum(abstained) / len(abstained) if abstained else None
    recall = sum(unanswerable) / len(unanswerable) if unanswerable else None
    return precision, recall


def bootstrap_interval(values: Sequence[float], seed: int = 0, rounds: int = 1000) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean (Efron 1979)."""
    import numpy as np  # here: the client knows this module by its golds alone

    sample = np.asarray(values, dtype=np.float64)  # [n]
    draw = np.random.default_rng(seed)
    means = [sample[draw.integers(0, len(sample), len(sample))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarize(outcomes: Sequence[Outcome], *, retrieval: bool, seed: int = 0) -> Summary:
    """The figures of one or more outcomes; ``retrieval`` is False where passages were given."""
    import numpy as np

    f1 = [100 * o.f1 for o in outcomes]
    ranks = [o.rank for o in outcomes if o.golds]
    recall = {k: value for k in RECALL_AT if (value := recall_at(ranks, k)) is not None} if retrieval else None
    p50, p95 = np.percentile([o.milliseconds for o in outcomes], [50, 95])
    precision, abstain_recall = abstention(outcomes)
    low, high = bootstrap_interval(f1, seed)
    return Summary(
        n=len(outcomes),
        em=100 * statistics.fmean(o.em for o in outcomes),
        f1=statistics.fmean(f1),
        f1_low=low,
        f1_high=high,
        recall=recall or None,
        mrr=mean_reciprocal_rank(ranks) if retrieval else None,
        abstain_precision=precision,
        abstain_recall=abstain_recall,
        p50_ms=float(p50),
        p95_ms=float(p95),
        refused=sum(o.refused for o in outcomes),
    )


def _occurrences(text: str, context: str) -> Iterator[int]:
    start = context.find(text) if text else -1
    while start >= 0:
        yield start
        start = context.find(text, start + 1)
