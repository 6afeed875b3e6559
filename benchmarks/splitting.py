"""What each method of splitting finds: `python -m benchmarks.splitting --data SQUAD.json --articles N --quick`.

Ingests the same articles (paragraphs joined to documents) once by each method, into a corpus of its own, and searches
each with the same questions, dense vectors only. A passage counts when it overlaps a gold answer's place in its
document. Agentic splitting asks the model of `--model`, by the service's own engine; where its answer is no division, a
part is split recursively, and `recursive` is the share of documents with such parts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapters import CausalEngine
from adapters.squad import Question, read_squad
from app.answer_metrics import Gold, first_rank, mean_reciprocal_rank, places_of, recall_at
from app.completion import EngineCompletion
from app.evaluation import SourceDocument, documents_of, read_articles
from app.schemas import PassageResponse
from ingest import (
    DOCUMENT_MIGRATIONS,
    METHODS,
    Corpus,
    Database,
    Embedder,
    Method,
    NewDocument,
    ParserProcess,
    RetrievalOptions,
    SplitConfig,
    SqliteDatabase,
    make_embedder,
)

DEPTH = 20
_SMALL_LM = Path(__file__).parent.parent / "examples" / "small_lm"
DENSE = RetrievalOptions(mode="dense")


@dataclass(frozen=True, slots=True)
class Measured:
    """One method's figures; ``seconds`` of ingestion, ``characters`` the median length of a chunk, ``recursive`` the
    share of documents that were not split throughout as the method means it."""

    recall: float
    mrr: float
    chunks: int
    characters: float
    seconds: float
    recursive: float


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="What each method of splitting finds.")
    parser.add_argument("--data", type=Path, required=True, help="a SQuAD-format file")
    parser.add_argument("--articles", type=int, default=36, help="the first so many articles (default: 36)")
    parser.add_argument("--questions", type=int, default=2000, help="so many questions, drawn (default: 2000)")
    parser.add_argument("--size", type=int, default=1000, help="longest chunk, in characters (default: 1000)")
    parser.add_argument("--model", default=str(_SMALL_LM), help="for agentic splitting: folder or hub id (default: "
                        "examples/small_lm)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="at most 200 questions")
    given = parser.parse_args()
    if not given.data.is_file():
        parser.error(f"no such file: {given.data}. Give a SQuAD-format file with --data.")
    articles = dict(list(read_articles(given.data).items())[: given.articles])
    asked = [q for q in read_squad(given.data) if q.answerable and q.article in articles]
    wanted = min(given.questions, 200) if given.quick else given.questions
    questions = random.Random(0).sample(asked, min(wanted, len(asked)))
    embedder = make_embedder()
    documents = documents_of(articles, "article")
    engine = CausalEngine(given.model)
    engine.load()
    try:
        complete = EngineCompletion(engine, "", threading.Event())
        found: dict[Method, Measured] = {}
        for method in METHODS:
            config = SplitConfig(given.size, method=method)
            found[method] = measure(config, documents, questions, embedder, complete)
            print(f"{method}: {found[method]}", flush=True)
    finally:
        engine.close()
    show(found, len(documents), len(questions))


def measure(
    config: SplitConfig,
    documents: Sequence[SourceDocument],
    questions: Sequence[Question],
    embedder: Embedder,
    complete: EngineCompletion,
) -> Measured:
    """Ingest the documents by one method and search with every question."""
    with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
        database = SqliteDatabase(Path(folder) / "lorebase.db", {"documents": DOCUMENT_MIGRATIONS})
        corpus, parser = Corpus(database, embedder, config, complete), ParserProcess()
        try:
            began = time.perf_counter()
            ids = _ingest(database, corpus, parser, documents)
            seconds = time.perf_counter() - began
            ranks = [_rank(corpus, question, documents, ids) for question in questions]
            noted = sum((split := corpus.document(i).split) is not None and split.note is not None for i in ids)
            lengths = [c.end - c.start for i in ids for c in corpus.chunks(i, limit=100_000)[0]]
        finally:
            corpus.release()
            database.close()
            parser.close()
    recall, mrr = recall_at(ranks, 5) or 0.0, mean_reciprocal_rank(ranks) or 0.0
    return Measured(recall, mrr, len(lengths), statistics.median(lengths), seconds, noted / len(documents))


def show(found: dict[Method, Measured], documents: int, questions: int) -> None:
    """Print the table, and the figures as one JSON object."""
    table = Table(title=f"Splitting: {documents} documents, {questions} questions, dense search")
    for column in ("method", "recall@5", "MRR", "chunks", "median characters", "seconds", "recursive"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, m in found.items():
        table.add_row(
            method,
            f"{m.recall:.3f}",
            f"{m.mrr:.3f}",
            str(m.chunks),
            f"{m.characters:.0f}",
            f"{m.seconds:.1f}",
            f"{m.recursive:.0%}",
        )
    Console().print(table)
    figures = {
        f"{method}_{name}": round(value, 4)
        for method, m in found.items()
        for name, value in (
            ("recall_at_5", m.recall), ("mrr", m.mrr), ("chunks", m.chunks), ("seconds", m.seconds),
            ("recursive", m.recursive),
        )
    }  # fmt: skip
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    print(json.dumps({**figures, "documents": documents, "questions": questions, **machine}))


def _ingest(
    database: Database, corpus: Corpus, parser: ParserProcess, documents: Sequence[SourceDocument]
) -> list[str]:
    new = [NewDocument(title=d.title, name=d.title, content=d.text.encode(), is_text=True) for d in documents]
    with database.write() as connection:
        ids = [corpus.add(connection, document).id for document in new]
    if set(corpus.process_many(ids, parser).values()) != {"ready"}:
        raise SystemExit("A document was not ingested.")
    return ids


def _rank(
    corpus: Corpus,
    question: Question,
    documents: Sequence[SourceDocument],
    ids: Sequence[str],
) -> int | None:
    source, document_id = next((d, i) for d, i in zip(documents, ids, strict=True) if d.title == question.article)
    offset = source.offsets[question.context]
    golds = [Gold(a.text, places_of(a.text, a.start, question.context, document_id, offset)) for a in question.answers]
    passages = [
        PassageResponse(
            chunk_id=p.chunk_id,
            document_id=p.document_id,
            title=p.title,
            text=p.text,
            score=p.score,
            page=p.page,
            section=p.section,
            start=p.start,
            end=p.end,
        )
        for p in corpus.search(question.question, DEPTH, options=DENSE)
    ]
    return first_rank(passages, golds)


if __name__ == "__main__":
    main()
