"""LangChain: RecursiveCharacterTextSplitter, HuggingFaceEmbeddings, FAISS, HuggingFacePipeline, as its documentation
puts them together; tuned, BM25Retriever beside FAISS in an EnsembleRetriever."""

from __future__ import annotations

from benchmarks.peers.worker import AnswerJob, Ask, Ingest, IngestJob, Search, numbered, serve


def ingesting(job: IngestJob, tuned: bool) -> Ingest:
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


def searching(job: AnswerJob, texts: list[str], tuned: bool) -> Search:
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_community.retrievers import BM25Retriever
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings

    documents = [Document(page_content=text, metadata={"number": number}) for number, text in enumerate(texts)]
    options = {} if not tuned else {"batch_size": job.batch}
    embeddings = HuggingFaceEmbeddings(model_name=job.model, model_kwargs={"device": "cpu"}, encode_kwargs=options)
    store = FAISS.from_documents(documents, embeddings)
    retriever = store.as_retriever(search_kwargs={"k": job.count})
    if tuned:
        words = BM25Retriever.from_documents(documents, k=job.count)
        retriever = EnsembleRetriever(retrievers=[words, retriever], weights=[0.5, 0.5])

    def search(question: str) -> list[int]:
        return [found.metadata["number"] for found in retriever.invoke(question)][: job.count]

    return search


def asking(job: AnswerJob, tuned: bool) -> Ask:
    from langchain_core.prompts import PromptTemplate
    from langchain_huggingface import HuggingFacePipeline

    search = searching(job, job.asked, tuned)
    model = HuggingFacePipeline.from_model_id(
        model_id=job.language_model,
        task="text-generation",
        pipeline_kwargs={"max_new_tokens": job.longest, "do_sample": False, "return_full_text": False},
    )
    chain = PromptTemplate.from_template(job.prompt) | model

    def ask(question: str) -> str:
        sources = numbered([job.asked[number] for number in search(question)])
        return str(chain.invoke({"sources": sources, "question": question}))

    return ask


if __name__ == "__main__":
    serve(ingesting, searching, asking)
