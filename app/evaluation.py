"""Measures answers and retrieval on a question set, through the service as clients meet it.

Knows question sets, metrics, and the client; knows no model, no server process and no terminal.
The metrics are functions over plain data. EM and F1 are those of the official SQuAD scripts, in percent; recall@k is
the share of answerable questions with a passage among the first k that overlaps a gold answer.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from adapters.squad import Question, exact_match, f1_score
from app.client import GivenText, LorebaseClient, ServiceError, Text
from app.schemas import PassageResponse

Granularity = Literal["article", "paragraph"]
Progress = Callable[[str, int, int], None]
RECALL_AT = (1, 5, 20)
DEPTH = 20
PARAGRAPH_BREAK = "\n\n"
_INGEST_BATCH_CHARS = 400_000
_INGEST_BATCH_DOCUMENTS = 200


class EvaluationFailed(Exception):
    """The evaluation cannot go on; the message says why in one line."""


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
class Options:
    """How to ask.

    Attributes:
        given_paragraph: no retrieval; the question's own paragraph is the only passage.
        granularity: what is one document: an article, or a paragraph.
        adapter: ``name``, ``name@version`` or ``base``; None is the tenant's default.
        min_confidence: as in ``/ask``.
        top_k: passages an answer is read from.
    """

    given_paragraph: bool = False
    granularity: Granularity = "article"
    adapter: str | None = None
    min_confidence: float | None = None
    top_k: int = 5
    concurrency: int = 1


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


def abstention(outcomes: Sequence[Outcome]) -> tuple[float | None, float | None]:
    """Precision: the share of abstentions that were on unanswerable questions.
    Recall: the share of unanswerable questions that were abstained on. None where there are none."""
    abstained = [not o.golds for o in outcomes if o.abstained]
    unanswerable = [o.abstained for o in outcomes if not o.golds]
    precision = sum(abstained) / len(abstained) if abstained else None
    recall = sum(unanswerable) / len(unanswerable) if unanswerable else None
    return precision, recall


def bootstrap_interval(values: Sequence[float], seed: int = 0, rounds: int = 1000) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean (Efron 1979)."""
    sample = np.asarray(values, dtype=np.float64)  # [n]
    draw = np.random.default_rng(seed)
    means = [sample[draw.integers(0, len(sample), len(sample))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarize(outcomes: Sequence[Outcome], *, retrieval: bool, seed: int = 0) -> Summary:
    """The figures of one or more outcomes; ``retrieval`` is False where passages were given."""
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


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document made of a question set's paragraphs: each paragraph, and where it begins in the text."""

    title: str
    text: str
    offsets: dict[str, int]


def read_articles(path: Path) -> dict[str, list[str]]:
    """The different paragraphs of each article of a file that `read_squad` reads, those without questions too."""
    articles: dict[str, dict[str, None]] = {}
    for i, article in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        kept = articles.setdefault(str(article.get("title") or f"article {i + 1}"), {})
        kept.update((str(paragraph["context"]), None) for paragraph in article["paragraphs"])
    return {title: list(paragraphs) for title, paragraphs in articles.items()}


def documents_of(articles: Mapping[str, Sequence[str]], granularity: Granularity) -> list[SourceDocument]:
    """The articles (paragraphs joined by a blank line) or the single paragraphs of a set, in its order."""
    if granularity == "paragraph":
        return [SourceDocument(title, p, {p: 0}) for title, paragraphs in articles.items() for p in paragraphs]
    return [_joined(title, paragraphs) for title, paragraphs in articles.items()]


def collection_name(documents: Sequence[SourceDocument]) -> str:
    """A collection of these documents' own, so that a set is asked only about itself, and is stored only once."""
    content = hashlib.sha256("\0".join(f"{d.title}\0{d.text}" for d in documents).encode("utf-8", "replace"))
    return f"evaluation-{content.hexdigest()[:12]}"


def sample(questions: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """All questions, or ``limit`` of them drawn by ``seed``."""
    if limit is None or limit >= len(questions):
        return list(questions)
    return random.Random(seed).sample(list(questions), limit)


class Evaluator:
    """Asks a service a question set.

    Args:
        connect: makes a client; called once per worker, so that each keeps a connection of its own.
        progress: told what is done: a phase's name, how many of how many.
    """

    def __init__(self, connect: Callable[[], LorebaseClient], options: Options, progress: Progress) -> None:
        self._connect = connect
        self._options = options
        self._progress = progress
        self._collection: str | None = None
        self._stored: dict[tuple[str, str], tuple[str, int] | None] = {}
        self._worker = threading.local()
        self._clients: list[LorebaseClient] = []

    def ingest(self, articles: Mapping[str, Sequence[str]]) -> None:
        """Store every paragraph of a set. Raises EvaluationFailed, ServiceError."""
        documents = documents_of(articles, self._options.granularity)
        self._collection = collection_name(documents)
        self._progress("ingest", 0, len(documents))
        done = 0
        with self._connect() as client:
            for batch in _batches(documents):
                self._store(client, batch)
                done += len(batch)
                self._progress("ingest", done, len(documents))

    def run(self, questions: Sequence[Question]) -> list[Outcome]:
        """Ask the questions; outcomes in their order. Raises ServiceError for anything but a refused question."""
        outcomes: dict[int, Outcome] = {}
        self._progress("ask", 0, len(questions))
        pool = ThreadPoolExecutor(self._options.concurrency)
        try:
            waiting = {pool.submit(self._ask, question): i for i, question in enumerate(questions)}
            for future in as_completed(waiting):
                outcomes[waiting[future]] = future.result()
                self._progress("ask", len(outcomes), len(questions))
        finally:
            pool.shutdown(cancel_futures=True)
            for client in self._clients:
                client.close()
            self._clients.clear()
        return [outcomes[i] for i in range(len(questions))]

    def _store(self, client: LorebaseClient, batch: Sequence[SourceDocument]) -> None:
        texts: list[Text] = [{"title": d.title[:500], "text": d.text} for d in batch]
        response = client.ingest_texts(texts, collection=self._collection or "default")
        for source, stored in zip(batch, response.documents, strict=True):
            if stored.status != "ready":
                raise EvaluationFailed(f"{source.title!r} was not ingested: {stored.error or stored.status}")
            # Offsets are true only if the service kept the text as it was; else answers are matched by their text.
            kept = client.document_text(stored.id) == source.text
            for paragraph, offset in source.offsets.items():
                self._stored[source.title, paragraph] = (stored.id, offset) if kept else None

    def _ask(self, question: Question) -> Outcome:
        client = self._client()
        options = self._options
        passages: list[GivenText] | None = None
        if options.given_paragraph:
            passages = [{"title": "", "text": question.context}]
        golds = tuple(a.text for a in question.answers)
        began = time.perf_counter()
        try:
            # Asked before it is searched for, so that no cached query shortens the answer's time.
            response = client.ask(
                question.question,
                adapter=options.adapter,
                top_k=options.top_k,
                collection=None if passages else self._collection,
                min_confidence=options.min_confidence,
                passages=passages,
            )
            milliseconds = (time.perf_counter() - began) * 1000
            rank = None if passages or not golds else self._rank(client, question)
        except ServiceError as error:
            if error.status != 422:
                raise
            return Outcome(golds, "", False, (time.perf_counter() - began) * 1000, refused=True)
        return Outcome(golds, response.answer, response.abstained, milliseconds, rank)

    def _rank(self, client: LorebaseClient, question: Question) -> int | None:
        where = self._stored.get((question.article, question.context))
        golds = [
            Gold(a.text, places_of(a.text, a.start, question.context, where[0], where[1]) if where else ())
            for a in question.answers
        ]
        found = client.search(question.question, top_k=DEPTH, collection=self._collection)
        return first_rank(found, golds)

    def _client(self) -> LorebaseClient:
        client: LorebaseClient | None = getattr(self._worker, "client", None)
        if client is None:
            client = self._worker.client = self._connect()
            self._clients.append(client)
        return client


def _joined(title: str, paragraphs: Sequence[str]) -> SourceDocument:
    offsets: dict[str, int] = {}
    end = 0
    for paragraph in paragraphs:
        offsets[paragraph] = end
        end += len(paragraph) + len(PARAGRAPH_BREAK)
    return SourceDocument(title, PARAGRAPH_BREAK.join(paragraphs), offsets)


def _batches(documents: Sequence[SourceDocument]) -> Iterator[list[SourceDocument]]:
    batch: list[SourceDocument] = []
    for document in documents:
        characters = sum(len(d.text) for d in batch) + len(document.text)
        if batch and (len(batch) == _INGEST_BATCH_DOCUMENTS or characters > _INGEST_BATCH_CHARS):
            yield batch
            batch = []
        batch.append(document)
    if batch:
        yield batch


def _occurrences(text: str, context: str) -> Iterator[int]:
    start = context.find(text) if text else -1
    while start >= 0:
        yield start
        start = context.find(text, start + 1)
