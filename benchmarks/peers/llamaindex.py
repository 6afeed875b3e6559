"""LlamaIndex: SentenceSplitter counting characters, HuggingFaceEmbedding, VectorStoreIndex over FAISS."""

from __future__ import annotations

from benchmarks.peers.worker import Ingest, Job, serve


def prepare(job: Job, tuned: bool) -> Ingest:
    import faiss
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.faiss import FaissVectorStore

    options = {} if not tuned else {"embed_batch_size": job.batch}
    embedding = HuggingFaceEmbedding(model_name=job.model, device="cpu", **options)
    splitter = SentenceSplitter(
        chunk_size=job.size,
        chunk_overlap=0,
        tokenizer=list,
        include_metadata=False,
        chunking_tokenizer_fn=lambda text: text.replace(". ", ".\0 ").split("\0"),  # its own needs a download
    )

    def ingest() -> list[str]:
        nodes = splitter.get_nodes_from_documents([Document(text=text) for _, text in job.documents])
        store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(384))
        VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding)
        return [node.get_content() for node in nodes]

    return ingest


if __name__ == "__main__":
    serve(prepare)
