"""What the embedding backend gains and costs: `make bench NAME=embed`.

Embeds SQuAD paragraphs (titled, as the service does) and questions by `SentenceTransformer.encode` in float32 and by
the service's own backend, turn by turn in one run on equally many threads. Figures: chunks per second, recall@5 of the
questions by exact search, also with questions of one backend over paragraphs of the other (what happens when a data
folder moves to another processor), and the time of one short question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from adapters.squad import Question, read_squad
from benchmarks.measure import Spread, interleaved, parse_arguments, report, timed
from ingest import OpenVINOEmbedder, embedded_text
from ingest.embedding import model_location

SPEEDUP_BOUND, RECALL_BOUND = 2.0, 0.99
_PARAGRAPHS = {True: 120, False: None}  # quick
_QUESTIONS = {True: 240, False: 2000}
_TIMED = {True: 48, False: 384}
_LATENCIES = {True: 30, False: 100}

Vectors = NDArray[np.float32]


class _Encoder(Protocol):
    def encode(self, texts: Sequence[str]) -> Vectors: ...


class Float32:
    """`SentenceTransformer.encode` as its documentation shows it."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(model_location(None), device="cpu")

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 ``[n, d]``."""
        vectors: Vectors = self._model.encode(list(texts), normalize_embeddings=True)
        return vectors


def recall_at_5(questions: Vectors, paragraphs: Vectors, right: Sequence[int]) -> float:
    """Share of the questions whose paragraph is among the five nearest."""
    best = np.argsort(-(questions @ paragraphs.T), axis=1)[:, :5]  # [questions, 5]
    return float(np.mean([index in row for index, row in zip(right, best.tolist(), strict=True)]))


def questions_and_paragraphs(
    asked: Sequence[Question], paragraphs: int | None, count: int
) -> tuple[list[str], list[str], list[int]]:
    """Texts of questions and of paragraphs, and which paragraph each question is about."""
    places = list(dict.fromkeys((q.article, q.context) for q in asked))[:paragraphs]
    number = {place: i for i, place in enumerate(places)}
    within = [q for q in asked if (q.article, q.context) in number]
    chosen = random.Random(0).sample(within, min(count, len(within)))
    return (
        [q.question for q in chosen],
        [embedded_text(article, context) for article, context in places],
        [number[q.article, q.context] for q in chosen],
    )


def main() -> None:
    """Run the measurement."""
    arguments = parse_arguments(
        "What the embedding backend gains.", default_set="squad-v1.1-dev36.json", repeats=5, quick_repeats=3
    )
    asked, paragraphs, right = questions_and_paragraphs(
        read_squad(arguments.data), _PARAGRAPHS[arguments.quick], _QUESTIONS[arguments.quick]
    )
    sample = paragraphs[:: max(1, len(paragraphs) // _TIMED[arguments.quick])]
    threads = torch.get_num_threads()
    ways: dict[str, _Encoder] = {"fp32": Float32(), "fast": OpenVINOEmbedder(threads=threads)}
    for way in ways.values():
        way.encode(sample[:32])
    taken = interleaved({name: _timer(way, sample) for name, way in ways.items()}, arguments.repeats)
    few = asked[: _LATENCIES[arguments.quick]]
    waited = interleaved({name: _latency(way, few) for name, way in ways.items()}, arguments.repeats)
    vectors = {name: (way.encode(asked), way.encode(paragraphs)) for name, way in ways.items()}
    recalls = {
        f"{of}/{over}": recall_at_5(vectors[of][0], vectors[over][1], right) for of in vectors for over in vectors
    }
    cosines = (vectors["fp32"][1] * vectors["fast"][1]).sum(axis=1)  # [paragraphs]
    show(taken, waited, recalls, float(cosines.min()), len(sample))


def _timer(way: _Encoder, texts: Sequence[str]) -> Callable[[], float]:
    return lambda: timed(lambda: way.encode(texts))


def _latency(way: _Encoder, questions: Sequence[str]) -> Callable[[], float]:
    return lambda: median(timed(partial(way.encode, [question])) for question in questions)


def show(
    taken: dict[str, list[float]],
    waited: dict[str, list[float]],
    recalls: dict[str, float],
    cosine: float,
    chunks: int,
) -> None:
    """Print the table and the figures."""
    speedup = Spread.of([slow / fast for slow, fast in zip(taken["fp32"], taken["fast"], strict=True)])
    latency = Spread.of([fast / slow for slow, fast in zip(waited["fp32"], waited["fast"], strict=True)])
    recall = recalls["fast/fast"] / recalls["fp32/fp32"]
    mixed = min(recalls["fast/fp32"], recalls["fp32/fast"]) / recalls["fp32/fp32"]
    speeds = {name: Spread.of([chunks / seconds for seconds in values]) for name, values in taken.items()}
    kept = speedup.median >= SPEEDUP_BOUND and recall >= RECALL_BOUND
    report(
        f"Embedding: {chunks} chunks × {len(taken['fp32'])}, {torch.get_num_threads()} threads",
        [
            ("SentenceTransformer.encode, torch float32", str(speeds["fp32"]), "chunks/s"),
            ("the service's backend", str(speeds["fast"]), "chunks/s"),
            ("speed-up, turn by turn", str(speedup), ""),
            ("one question, torch float32", str(Spread.of([s * 1000 for s in waited["fp32"]])), "ms"),
            ("one question, the service's backend", str(Spread.of([s * 1000 for s in waited["fast"]])), "ms"),
            *((f"recall@5, questions/paragraphs by {name}", f"{value:.4f}", "") for name, value in recalls.items()),
            ("lowest cosine of a paragraph's two vectors", f"{cosine:.6f}", ""),
        ],
        f"The bound: speed-up at least {SPEEDUP_BOUND}, recall ratio at least {RECALL_BOUND}: "
        f"{'kept' if kept else 'NOT kept'}.",
        {
            "speedup_vs_fp32": round(speedup.median, 3),
            "recall_ratio": round(recall, 4),
            "mixed_recall_ratio": round(mixed, 4),
            "query_latency_ratio": round(latency.median, 3),
            "recall@5": round(recalls["fast/fast"], 4),
            "lowest_cosine": round(cosine, 6),
            "fp32_chunks_per_s": round(speeds["fp32"].median, 1),
            "fast_chunks_per_s": round(speeds["fast"].median, 1),
            "threads": torch.get_num_threads(),
        },
    )


if __name__ == "__main__":
    main()
