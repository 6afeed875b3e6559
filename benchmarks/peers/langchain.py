"""LangChain: RecursiveCharacterTextSplitter, HuggingFaceEmbeddings, FAISS, as its documentation puts them together."""

from __future__ import annotations

from benchmarks.peers.worker import Ingest, Job, serve


def prepare(job: Job, tuned: bool) -> Ingest:
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    options = {} if not tuned else {"batch_size": job.batch}
    embeddings = HuggingFaceEmbeddings(model_name=job.model, model_kwargs={"device": "cpu"}, encode_kwargs=options)
    splitter = RecursiveCharacterTextSplitter(chunk_size=job.size, chunk_overlap=0)
    documents = [Document(page_content=text, metadata={"title": title}) for title, text in job.documents]

    def ingest() -> list[str]:
        chunks = splitter.split_documents(documents)
        FAISS.from_documents(chunks, embeddings)
        return [chunk.page_content for chunk in chunks]

    return ingest


if __name__ == "__main__":
    serve(prepare)
