"""LlamaIndex: SentenceSplitter counting characters, HuggingFaceEmbedding, VectorStoreIndex over FAISS, HuggingFaceLLM;
tuned, BM25Retriever beside the index in a QueryFusionRetriever."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.worker import AnswerJob, Ask, Ingest, IngestJob, Search, numbered, serve

_DIMENSION = 384


def ingesting(job: IngestJob, tuned: bool) -> Ingest:
    from llama_index.core import Document
    from llama_index.core.node_parser import SentenceSplitter

    embedding = _embedding(job.model, job.batch if tuned else None)
    splitter = SentenceSplitter(
        chunk_size=job.size,
        chunk_overlap=0,
        tokenizer=list,
        include_metadata=False,
        chunking_tokenizer_fn=lambda text: text.replace(". ", ".\0 ").split("\0"),  # its own needs a download
    )

    def ingest() -> list[str]:
        nodes = splitter.get_nodes_from_documents([Document(text=text) for _, text in job.documents])
        _index(nodes, embedding)
        return [node.get_content() for node in nodes]

    return ingest


def searching(job: AnswerJob, texts: list[str], tuned: bool) -> Search:
    from llama_index.core.llms import MockLLM
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.schema import TextNode
    from llama_index.retrievers.bm25 import BM25Retriever

    nodes = [TextNode(text=text, id_=str(number)) for number, text in enumerate(texts)]
    retriever: Any = _index(nodes, _embedding(job.model, job.batch if tuned else None)).as_retriever(
        similarity_top_k=job.count
    )
    if tuned:
        words = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=job.count)
        retriever = QueryFusionRetriever(
            [retriever, words],
            llm=MockLLM(),  # one query is asked, so it writes none
            similarity_top_k=job.count,
            num_queries=1,
            mode="reciprocal_rerank",
            use_async=False,
        )

    def search(question: str) -> list[int]:
        return [int(found.node.node_id) for found in retriever.retrieve(question)]

    return search


def asking(job: AnswerJob, tuned: bool) -> Ask:
    from llama_index.llms.huggingface import HuggingFaceLLM

    search = searching(job, job.asked, tuned)
    model = HuggingFaceLLM(
        model_name=job.language_model,
        tokenizer_name=job.language_model,
        device_map="cpu",
        max_new_tokens=job.longest,
        generate_kwargs={"do_sample": False},
    )

    def ask(question: str) -> str:
        sources = numbered([job.asked[number] for number in search(question)])
        return str(model.complete(job.prompt.format(sources=sources, question=question), formatted=True))

    return ask


def _embedding(model: str, batch: int | None) -> Any:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    options = {} if batch is None else {"embed_batch_size": batch}
    return HuggingFaceEmbedding(model_name=model, device="cpu", **options)


def _index(nodes: list[Any], embedding: Any) -> Any:
    import faiss
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.vector_stores.faiss import FaissVectorStore

    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(_DIMENSION))
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=embedding)


if __name__ == "__main__":
    serve(ingesting, searching, asking)
