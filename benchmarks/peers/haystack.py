"""Haystack: RecursiveDocumentSplitter, SentenceTransformersDocumentEmbedder, InMemoryDocumentStore."""

from __future__ import annotations

from benchmarks.peers.worker import Ingest, Job, serve


def prepare(job: Job, tuned: bool) -> Ingest:
    from haystack import Document, Pipeline
    from haystack.components.preprocessors import RecursiveDocumentSplitter
    from haystack.components.writers import DocumentWriter
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder

    options = {} if not tuned else {"batch_size": job.batch}
    embedder = SentenceTransformersDocumentEmbedder(
        model=job.model, device=ComponentDevice.from_str("cpu"), progress_bar=False, **options
    )
    splitter = RecursiveDocumentSplitter(
        split_length=job.size, split_unit="char", separators=["\n\n", r"\n", r"\. ", " "]
    )
    embedder.warm_up()
    splitter.warm_up()

    store = InMemoryDocumentStore()
    pipeline = Pipeline()
    for name, component in (("split", splitter), ("embed", embedder), ("write", DocumentWriter(store))):
        pipeline.add_component(name, component)
    pipeline.connect("split.documents", "embed.documents")
    pipeline.connect("embed.documents", "write.documents")

    def ingest() -> list[str]:
        store.delete_documents([document.id for document in store.filter_documents()])
        documents = [Document(content=text, meta={"title": title}) for title, text in job.documents]
        pipeline.run({"split": {"documents": documents}})
        return [document.content or "" for document in store.filter_documents()]

    return ingest


if __name__ == "__main__":
    serve(prepare)
