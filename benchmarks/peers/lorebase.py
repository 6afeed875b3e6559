"""Lorebase, as the service ingests: stored, parsed in a child process, split, embedded, committed, indexed.

The default is the service's own embedder; tuned means the same `SentenceTransformer` on torch as every peer uses.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.peers.worker import Ingest, Job, serve


def prepare(job: Job, tuned: bool) -> Ingest:
    from app.service import embedder_of
    from app.settings import Settings
    from ingest import (
        DOCUMENT_MIGRATIONS,
        Corpus,
        NewDocument,
        ParserProcess,
        SentenceTransformerEmbedder,
        SplitConfig,
        SqliteDatabase,
        embedded_text,
    )

    embedder = SentenceTransformerEmbedder(batch_size=job.batch) if tuned else embedder_of(Settings())
    parser = ParserProcess()
    documents = [NewDocument(title, title, text.encode(), is_text=True) for title, text in job.documents]

    def ingest() -> list[str]:
        with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
            database = SqliteDatabase(Path(folder) / "lorebase.db", {"documents": DOCUMENT_MIGRATIONS})
            corpus = Corpus(database, embedder, SplitConfig(size=job.size))
            try:
                corpus.search("", 1, None, None)  # opens the index, so that ingestion has to keep it up to date
                with database.write() as connection:
                    ids = [corpus.add(connection, document).id for document in documents]
                outcomes = corpus.process_many(ids, parser)
                if set(outcomes.values()) != {"ready"}:
                    raise SystemExit("a document was not ingested")
                titles = dict(zip(ids, (title for title, _ in job.documents), strict=True))
                return [embedded_text(titles[i], c.text) for i in ids for c in corpus.chunks(i, limit=100_000)[0]]
            finally:
                corpus.release()
                database.close()

    return ingest


if __name__ == "__main__":
    serve(prepare)
