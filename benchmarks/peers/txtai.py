"""txtai: Segmentation by its recursive chunker, Embeddings with content, FAISS behind it."""

from __future__ import annotations

from benchmarks.peers.worker import Ingest, Job, serve


def prepare(job: Job, tuned: bool) -> Ingest:
    from txtai import Embeddings
    from txtai.pipeline import Segmentation

    options = {} if not tuned else {"encodebatch": job.batch}
    model = Embeddings(path=job.model, gpu=False, content=True, backend="faiss", **options)
    segment = Segmentation(chunker="recursive", tokenizer="character", chunk_size=job.size, cleantext=False)

    def ingest() -> list[str]:
        texts = [chunk for _, text in job.documents for chunk in segment(text)]
        model.index(texts)
        return texts

    return ingest


if __name__ == "__main__":
    serve(prepare)
