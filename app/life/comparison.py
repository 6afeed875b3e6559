"""What a comparison's outcomes say: the figures of each way to answer, paired intervals, and a plain recommendation.

Pure: outcomes in, figures and words out. Knows no service and no rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.squad import exact_match, f1_score
from app.answer_metrics import DEPTH, RECALL_AT, abstention, bootstrap_interval, mean_reciprocal_rank, recall_at

ROUNDS = 2000
_FEW = 30
_LOW_RECALL = 0.7
TITLES = {
    "prompt_only": "prompt only",
    "rag": "RAG",
    "adapter": "adapter",
    "rag_adapter": "RAG + adapter",
    "base": "base",
    "active": "active version",
    "candidate": "candidate",
}
# From the simplest way to answer to the one that needs most.
_BY_SIMPLICITY = ("prompt_only", "rag", "adapter", "rag_adapter")
_NEEDS = {
    "prompt_only": "no documents and no training",
    "rag": "documents, no training",
    "adapter": "training, no documents",
    "rag_adapter": "documents and training",
}


class Way(Protocol):
    """A way to answer; without ``grounded`` nothing is read."""

    @property
    def key(self) -> str: ...

    @property
    def grounded(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of one question, asked in one way.

    Attributes:
        golds: the gold answers' texts; empty for a question that has none.
        cited: whether a citation holds a gold answer; None where nothing was cited or there is no gold answer.
        rank: of the first of the retrieved passages, from 1, that holds an answer; None: none does.
        refused: the question could not be asked (too long, say): no answer, and no abstention either.
    """

    golds: tuple[str, ...]
    answer: str
    abstained: bool
    milliseconds: float
    tokens: int
    cited: bool | None = None
    rank: int | None = None
    refused: bool = False

    @property
    def em(self) -> float:
        return 0.0 if self.refused else 100 * exact_match(self.answer, self.golds)

    @property
    def f1(self) -> float:
        return 0.0 if self.refused else 100 * f1_score(self.answer, self.golds)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one way to answer: EM and F1 in percent with the 95 % bootstrap interval of F1, shares as
    fractions, tokens per question; None where undefined.

    Attributes:
        citation_correct: of the answers that cite and have a gold answer, the share with a citation that holds one.
    """

    n: int
    em: float
    f1: float
    f1_low: float
    f1_high: float
    recall: dict[str, float] | None
    mrr: float | None
    citation_correct: float | None
    abstained: float
    abstain_precision: float | None
    abstain_recall: float | None
    p50_ms: float
    p95_ms: float
    tokens: float
    refused: int


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the first way is better than the second, F1 points over the same questions, with its paired 95 %
    bootstrap interval. ``spread``: the standard deviation of the questions' differences; 0 of a single question."""

    first: str
    second: str
    f1: float
    low: float
    high: float
    spread: float

    @property
    def certain(self) -> bool:
        """Whether chance does not explain it."""
        return self.low > 0 or self.high < 0


def figures(asked: Sequence[Asked], *, retrieval: bool, top_k: int, seed: int = 0) -> Figures:
    """The figures of one or more outcomes. Recall is told up to as many passages as were looked at."""
    import numpy as np  # here: requests and rows know this module by its shapes alone

    f1 = [each.f1 for each in asked]
    low, high = bootstrap_interval(f1, seed)
    ranks = [each.rank for each in asked if each.golds and not each.refused]
    at = [k for k in RECALL_AT if k <= top_k] if retrieval and ranks else []
    recall = {str(k): share for k in at if (share := recall_at(ranks, k)) is not None}
    cited = [each.cited for each in asked if each.cited is not None]
    precision, abstain_recall = abstention(asked)
    p50, p95 = np.percentile([each.milliseconds for each in asked], [50, 95])
    return Figures(
        n=len(asked),
        em=statistics.fmean(each.em for each in asked),
        f1=statistics.fmean(f1),
        f1_low=low,
        f1_high=high,
        recall=recall or None,
        mrr=mean_reciprocal_rank(ranks) if at else None,
        citation_correct=sum(cited) / len(cited) if cited else None,
        abstained=sum(each.abstained for each in asked) / len(asked),
        abstain_precision=precision,
        abstain_recall=abstain_recall,
        p50_ms=float(p50),
        p95_ms=float(p95),
        tokens=statistics.fmean(each.tokens for each in asked),
        refused=sum(each.refused for each in asked),
    )


def difference(
    first: str, second: str, outcomes: Mapping[str, Sequence[Asked]], seed: int = 0, rounds: int = ROUNDS
) -> Difference:
    """The paired difference of two ways asked the same questions (paired bootstrap over questions, Efron 1979;
    Koehn 2004)."""
    import numpy as np

    gains = np.array(
        [a.f1 - b.f1 for a, b in zip(outcomes[first], outcomes[second], strict=True)], dtype=np.float64
    )  # [n]
    draw = np.random.default_rng(seed)
    means = [gains[draw.integers(0, len(gains), len(gains))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    return Difference(first, second, float(gains.mean()), float(low), float(high), spread)


def recommend(outcomes: Mapping[str, Sequence[Asked]], figures_of: Mapping[str, Figures]) -> tuple[str, str]:
    """The way to take, and the reason in plain words: the simplest one that no other beats by more than chance."""
    ways = [way for way in _BY_SIMPLICITY if way in figures_of]
    best = max(ways, key=lambda way: figures_of[way].f1)
    taken, lead = best, None
    for way in ways:
        lead = difference(best, way, outcomes) if way != best else None
        if lead is None or lead.low <= 0:
            taken = way
            break
    sentences = [_verdict(taken, best, lead, ways, outcomes, figures_of)]
    n = figures_of[best].n
    if n < _FEW:
        sentences.append(f"With {n} questions these figures say little; ask {_FEW} or more.")
    seen = figures_of[taken]
    if seen.recall and (reach := list(seen.recall.items())[-1])[1] < _LOW_RECALL:
        sentences.append(
            f"Retrieval finds a passage with the answer among the first {reach[0]} for {100 * reach[1]:.0f} % of the "
            "questions only: no adapter can read what is not found, so look at splitting and retrieval first."
        )
    return taken, " ".join(sentences)


def _verdict(
    taken: str,
    best: str,
    lead: Difference | None,
    ways: Sequence[str],
    outcomes: Mapping[str, Sequence[Asked]],
    figures_of: Mapping[str, Figures],
) -> str:
    head = f"Take {TITLES[taken]} (F1 {figures_of[taken].f1:.1f}; it needs {_NEEDS[taken]})"
    if len(ways) == 1:
        return f"{head}: nothing else can be compared here."
    if lead is not None:
        return (
            f"{head}: {TITLES[best]} scored {lead.f1:.1f} points more, but the interval of that difference "
            f"({lead.low:.1f} to {lead.high:.1f}) reaches 0, so these questions do not show that its cost is worth it."
        )
    rivals = [way for way in ways if way != taken]
    beaten = [difference(taken, way, outcomes) for way in rivals]
    told = "; ".join(
        f"{d.f1:.1f} points better than {TITLES[d.second]} (95 % interval {d.low:.1f} to {d.high:.1f})" for d in beaten
    )
    simpler = [d for d in beaten if ways.index(d.second) < ways.index(taken)]
    why = ", more than chance explains" if simpler else ", and it is the simplest"
    return f"{head}: {told}{why}."


def compare(ways: Sequence[Way], outcomes: Mapping[str, Sequence[Asked]]) -> dict[str, Any]:
    """What asking the same questions in several ways came to, as JSON values: the figures of each way, the paired
    differences, and for the ways of a comparison the recommendation."""
    found = {way.key: figures(outcomes[way.key], retrieval=way.grounded, top_k=DEPTH) for way in ways}
    keys = list(found)
    pairs = [(later, earlier) for i, later in enumerate(keys) for earlier in keys[:i]]
    result: dict[str, Any] = {
        "figures": {key: figures_json(each) for key, each in found.items()},
        "differences": [difference_json(difference(later, earlier, outcomes)) for later, earlier in pairs],
    }
    if set(keys) <= set(_BY_SIMPLICITY):
        taken, why = recommend(outcomes, found)
        result["recommendation"] = {"way": taken, "text": why}
    return result


def json_ready(value: float | None, digits: int) -> float | None:
    """A figure rounded for people; None stays None."""
    return None if value is None else round(value, digits)


def figures_json(found: Figures) -> dict[str, Any]:
    """Figures as JSON values, rounded."""
    return {
        "n": found.n,
        "em": json_ready(found.em, 2),
        "f1": json_ready(found.f1, 2),
        "f1_low": json_ready(found.f1_low, 2),
        "f1_high": json_ready(found.f1_high, 2),
        "recall": None if found.recall is None else {k: round(v, 4) for k, v in found.recall.items()},
        "mrr": json_ready(found.mrr, 4),
        "citation_correct": json_ready(found.citation_correct, 4),
        "abstained": json_ready(found.abstained, 4),
        "abstain_precision": json_ready(found.abstain_precision, 4),
        "abstain_recall": json_ready(found.abstain_recall, 4),
        "p50_ms": json_ready(found.p50_ms, 1),
        "p95_ms": json_ready(found.p95_ms, 1),
        "tokens": json_ready(found.tokens, 1),
        "refused": found.refused,
    }


def difference_json(found: Difference) -> dict[str, Any]:
    """A difference as JSON values, rounded."""
    return {
        "first": found.first,
        "second": found.second,
        "f1": round(found.f1, 2),
        "low": round(found.low, 2),
        "high": round(found.high, 2),
    }
