"""What ingestion costs above the embedding it rests on: `make bench NAME=ingest`.

Sets the real corpus path (store, parse, split, embed, commit to SQLite, add to the FAISS index) beside one bare call of
the same embedder over exactly the texts that path embedded, turn by turn in one run. The figure is the ratio of their
chunks per second: 1 means that all but the embedding is free.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.evaluation import SourceDocument, documents_of, read_articles
from benchmarks.measure import Spread, interleaved, parse_arguments, report, timed
from ingest import (
    DOCUMENT_MIGRATIONS,
    Corpus,
    Database,
    Embedder,
    NewDocument,
    ParserProcess,
    SplitConfig,
    SqliteDatabase,
    make_embedder,
)

BOUND = 0.9
_PARAGRAPHS = {True: 90, False: 600}  # quick


class RecordingEmbedder:
    """The service's embedder, which keeps what it was given."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.texts: list[str] = []

    @property
    def fingerprint(self) -> str:
        return self._inner.fingerprint

    @property
    def dimension(self) -> int:
        return self._inner.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return self._inner.encode(texts)


class CorpusPath:
    """Ingestion as the service does it, without HTTP: a fresh corpus each time."""

    def __init__(self, documents: Sequence[SourceDocument], embedder: Embedder) -> None:
        self._documents = [
            NewDocument(title=d.title, name=d.title, content=d.text.encode(), metadata={}, collection="default",
                        is_text=True)
            for d in documents
        ]  # fmt: skip
        self._embedder = embedder
        self._parser = ParserProcess()

    def texts(self) -> list[str]:
        """What is embedded when the documents are ingested, in order; done once, it warms everything up too."""
        recording = RecordingEmbedder(self._embedder)
        self._ingest(recording)
        return recording.texts

    def seconds(self) -> float:
        """Seconds from the first document given to the last one found."""
        return self._ingest(self._embedder)

    def close(self) -> None:
        """Stop the parser's process."""
        self._parser.close()

    def _ingest(self, embedder: Embedder) -> float:
        with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
            database = SqliteDatabase(Path(folder) / "lorebase.db", {"documents": DOCUMENT_MIGRATIONS})
            corpus = Corpus(database, embedder, SplitConfig())
            try:
                corpus.search("", 1, None, None)  # opens the index, so that ingestion has to keep it up to date
                return timed(lambda: self._store_all(database, corpus))
            finally:
                corpus.release()
                database.close()

    def _store_all(self, database: Database, corpus: Corpus) -> None:
        with database.write() as connection:
            added = [corpus.add(connection, document) for document in self._documents]
        for one in added:
            outcome = corpus.process(one.id, self._parser, lambda: False, lambda done, total: None)
            if outcome != "ready":
                raise SystemExit(f"A document was not ingested: {outcome}")


def first_paragraphs(articles: Mapping[str, Sequence[str]], count: int) -> dict[str, list[str]]:
    """The first paragraphs of a set, so many or all, under the titles of their articles."""
    taken: dict[str, list[str]] = {}
    for title, paragraphs in articles.items():
        if left := count - sum(map(len, taken.values())):
            taken[title] = list(paragraphs[:left])
    return taken


def main() -> None:
    """Run the measurement."""
    arguments = parse_arguments(
        "What ingestion costs above the embedding.", default_set="squad-v1.1-dev36.json", repeats=5, quick_repeats=3
    )
    articles = first_paragraphs(read_articles(arguments.data), _PARAGRAPHS[arguments.quick])
    embedder = make_embedder()
    path = CorpusPath(documents_of(articles, "article"), embedder)
    try:
        texts = path.texts()
        bare = {"encode": lambda: timed(lambda: embedder.encode(texts))}  # all at once: the most that could be reached
        taken = interleaved({"ingest": path.seconds, **bare}, arguments.repeats)
    finally:
        path.close()
    show(taken, len(texts), len(articles))


def show(taken: dict[str, list[float]], chunks: int, documents: int) -> None:
    """Print the table and the figure."""
    speeds = {name: Spread.of([chunks / seconds for seconds in values]) for name, values in taken.items()}
    ratio = Spread.of([bare / full for full, bare in zip(taken["ingest"], taken["encode"], strict=True)])
    report(
        f"Ingestion: {chunks} chunks of {documents} documents × {len(taken['ingest'])}",
        [
            ("ingest: store, parse, split, embed, commit, index", str(speeds["ingest"]), "chunks/s"),
            ("bare encode by the same embedder, same texts", str(speeds["encode"]), "chunks/s"),
            ("ratio, turn by turn", str(ratio), ""),
        ],
        f"The bound: at least {BOUND}: {'kept' if ratio.median >= BOUND else 'NOT kept'}.",
        {
            "ratio_to_encode": round(ratio.median, 4),
            "ratio_low": round(ratio.low, 4),
            "ratio_high": round(ratio.high, 4),
            "ingest_chunks_per_s": round(speeds["ingest"].median, 2),
            "encode_chunks_per_s": round(speeds["encode"].median, 2),
            "chunks": chunks,
            "repeats": len(taken["ingest"]),
        },
    )


if __name__ == "__main__":
    main()
