"""Lorebase. As the service ingests: stored, parsed in a child process, split, embedded, committed, indexed; the
default is the service's own embedder, tuned means the same `SentenceTransformer` on torch as every peer uses.

Searched and asked by HTTP, in a server of its own, where the peers are called in their process; tuned, reranked.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.worker import AnswerJob, Ask, Ingest, IngestJob, Search, serve

_SENT_AT_ONCE = 100


def ingesting(job: IngestJob, tuned: bool) -> Ingest:
    from app.search_models import embedder_of
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


def searching(job: AnswerJob, texts: list[str], tuned: bool) -> Search:
    client, numbers = _tenant(job.language_model, tuple(texts))

    def search(question: str) -> list[int]:
        body = {"query": question, "top_k": job.count, "retrieval": {"rerank": tuned}}
        found = client.post("/search", json=body).raise_for_status().json()["passages"]
        return [numbers[passage["document_id"]] for passage in found]

    return search


def asking(job: AnswerJob, tuned: bool) -> Ask:
    client, _ = _tenant(job.language_model, tuple(job.asked))

    def ask(question: str) -> str:
        body = {"question": question, "top_k": job.count, "retrieval": {"rerank": tuned}, "max_tokens": job.longest}
        return str(client.post("/ask", json=body).raise_for_status().json()["answer"] or "")

    return ask


@functools.cache
def _server(language_model: str) -> Any:
    from app.local_server import local_server

    running = local_server(environment={"LOREBASE_MODEL": language_model, "LOREBASE_RERANKER": "builtin"})
    atexit.register(running.__exit__, None, None, None)
    return running.__enter__()


@functools.cache
def _tenant(language_model: str, texts: tuple[str, ...]) -> tuple[Any, dict[str, int]]:
    """A tenant that holds the texts: a client with its key, and their numbers by the ids of documents."""
    import httpx

    server = _server(language_model)
    admin = {"Authorization": f"Bearer {server.admin_key}"}
    made = httpx.post(f"{server.url}/tenants", json={"name": f"{len(texts)} texts"}, headers=admin).raise_for_status()
    key = {"Authorization": f"Bearer {made.json()['api_key']}"}
    client = httpx.Client(base_url=server.url, headers=key, timeout=600)
    numbers: dict[str, int] = {}
    for first in range(0, len(texts), _SENT_AT_ONCE):
        documents = [{"text": text} for text in texts[first : first + _SENT_AT_ONCE]]
        sent = client.post("/ingest", params={"wait": "true"}, json={"documents": documents}).raise_for_status()
        numbers |= {document["id"]: first + place for place, document in enumerate(sent.json()["documents"])}
    return client, numbers


if __name__ == "__main__":
    serve(ingesting, searching, asking)
