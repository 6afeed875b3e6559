"""Measures answers and retrieval on a question set, through the service as clients meet it.

Knows question sets and the client; knows no model, no server process and no terminal. Metrics: `app.answer_metrics`.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.squad import Question
from app.answer_metrics import DEPTH, Gold, Outcome, first_rank, places_of
from app.client import GivenText, LorebaseClient, ServiceError, Text

Granularity = Literal["article", "paragraph"]
Progress = Callable[[str, int, int], None]
PARAGRAPH_BREAK = "\n\n"
_INGEST_BATCH_CHARS = 400_000
_INGEST_BATCH_DOCUMENTS = 200
_MOST_ANSWERS = 50


class EvaluationFailed(Exception):
    """The evaluation cannot go on; the message says why in one line."""


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

    @property
    def collection(self) -> str | None:
        """Where the set is stored; None before `ingest`."""
        return self._collection

    def placed(self, question: Question) -> dict[str, Any]:
        """A question as `POST /evaluate` takes it, its answers with their places where the set is stored."""
        where = self._stored.get((question.article, question.context))
        answers: list[dict[str, Any]] = []
        for answer in question.answers:
            spots = places_of(answer.text, answer.start, question.context, *where) if where else ()
            answers += [{"text": answer.text, "document_id": s.document, "start": s.start} for s in spots] or [
                {"text": answer.text}
            ]
        return {"question": question.question, "answers": answers[:_MOST_ANSWERS], "context": question.context}

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
