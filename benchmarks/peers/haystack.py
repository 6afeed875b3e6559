"""Haystack: RecursiveDocumentSplitter, SentenceTransformersDocumentEmbedder, InMemoryDocumentStore,
TransformersChatGenerator; tuned, InMemoryBM25Retriever beside it and a DocumentJoiner."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.worker import AnswerJob, Ask, Ingest, IngestJob, Search, numbered, serve


def ingesting(job: IngestJob, tuned: bool) -> Ingest:
    from haystack import Document, Pipeline
    from haystack.components.preprocessors import RecursiveDocumentSplitter
    from haystack.components.writers import DocumentWriter
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    splitter = RecursiveDocumentSplitter(
        split_length=job.size, split_unit="char", separators=["\n\n", r"\n", r"\. ", " "]
    )
    splitter.warm_up()
    store = InMemoryDocumentStore()
    pipeline = Pipeline()
    embedder = _embedder(job.model, job.batch if tuned else None)
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


def searching(job: AnswerJob, texts: list[str], tuned: bool) -> Search:
    from haystack import Document, Pipeline
    from haystack.components.joiners import DocumentJoiner
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersTextEmbedder

    store = InMemoryDocumentStore()
    documents = [Document(content=text, meta={"number": number}) for number, text in enumerate(texts)]
    store.write_documents(_embedder(job.model, job.batch if tuned else None).run(documents=documents)["documents"])
    pipeline = Pipeline()
    asked = SentenceTransformersTextEmbedder(
        model=job.model, device=ComponentDevice.from_str("cpu"), progress_bar=False
    )
    pipeline.add_component("embed", asked)
    pipeline.add_component("dense", InMemoryEmbeddingRetriever(store, top_k=job.count))
    pipeline.connect("embed.embedding", "dense.query_embedding")
    if tuned:
        pipeline.add_component("words", InMemoryBM25Retriever(store, top_k=job.count))
        pipeline.add_component("join", DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=job.count))
        pipeline.connect("dense", "join")
        pipeline.connect("words", "join")
    pipeline.warm_up()

    def search(question: str) -> list[int]:
        given = {"embed": {"text": question}} | ({"words": {"query": question}} if tuned else {})
        found = pipeline.run(given)["join" if tuned else "dense"]["documents"]
        return [document.meta["number"] for document in found]

    return search


def asking(job: AnswerJob, tuned: bool) -> Ask:
    from haystack.dataclasses import ChatMessage
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.generators.transformers import TransformersChatGenerator

    search = searching(job, job.asked, tuned)
    generator = TransformersChatGenerator(
        model=job.language_model,
        task="text-generation",
        device=ComponentDevice.from_str("cpu"),
        generation_kwargs={"max_new_tokens": job.longest, "do_sample": False},
    )
    generator.warm_up()

    def ask(question: str) -> str:
        sources = numbered([job.asked[number] for number in search(question)])
        message = job.message.format(sources=sources, question=question)
        return str(generator.run(messages=[ChatMessage.from_user(message)])["replies"][0].text)

    return ask


def _embedder(model: str, batch: int | None) -> Any:
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder

    options = {} if batch is None else {"batch_size": batch}
    embedder = SentenceTransformersDocumentEmbedder(
        model=model, device=ComponentDevice.from_str("cpu"), progress_bar=False, **options
    )
    embedder.warm_up()
    return embedder


if __name__ == "__main__":
    serve(ingesting, searching, asking)
