"""txtai: Segmentation by its recursive chunker, Embeddings with content, FAISS behind it, LLM; tuned, hybrid."""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.peers.worker import AnswerJob, Ask, Ingest, IngestJob, Search, numbered, serve


def ingesting(job: IngestJob, tuned: bool) -> Ingest:
    from txtai.pipeline import Segmentation

    model = _embeddings(job.model, job.batch if tuned else None)
    segment = Segmentation(chunker="recursive", tokenizer="character", chunk_size=job.size, cleantext=False)

    def ingest() -> list[str]:
        texts = [chunk for _, text in job.documents for chunk in segment(text)]
        model.index(texts)
        return texts

    return ingest


def searching(job: AnswerJob, texts: list[str], tuned: bool) -> Search:
    model = _embeddings(job.model, job.batch if tuned else None, hybrid=tuned)
    model.index(texts)
    one_at_a_time = threading.Lock()  # its database refuses to be read by several threads at once

    def search(question: str) -> list[int]:
        with one_at_a_time:
            return [int(found["id"]) for found in model.search(question, job.count)]

    return search


def asking(job: AnswerJob, tuned: bool) -> Ask:
    from txtai import LLM

    search = searching(job, job.asked, tuned)
    model = LLM(job.language_model, method="transformers", gpu=False)

    def ask(question: str) -> str:
        sources = numbered([job.asked[number] for number in search(question)])
        prompt = job.prompt.format(sources=sources, question=question)
        return str(model(prompt, max_new_tokens=job.longest, do_sample=False))

    return ask


def _embeddings(model: str, batch: int | None, **options: Any) -> Any:
    from txtai import Embeddings

    if batch is not None:
        options["encodebatch"] = batch
    return Embeddings(path=model, gpu=False, content=True, backend="faiss", **options)


if __name__ == "__main__":
    serve(ingesting, searching, asking)
