"""What each stage of retrieval finds: `make bench NAME=retrieval`.

One corpus over the paragraphs of SQuAD v1.1 dev (a document each, as the service splits and titles them), the same
questions through every mode; the same questions made terse by rule (see `terse`), and some as people type them into a
search box, in few words and other words than the paragraph's (`questions/dev36-searches.json`); other sets
(`--others`); and the Chinese CMRC set by hybrid search, where a passage counts that holds an answer's text. Elsewhere a
passage counts when it overlaps an answer's place. `hybrid_least_margin` is how far hybrid stands above the better of
dense and keyword search in recall@5 where that is least. The reranker is the embedded one; without its weights the
figures of `reranked` are null. Vectors are kept in `--cache`, so that a second run begins at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters import EmbeddedReranker, reranker_is_there
from adapters.squad import Question, read_squad
from app.answer_metrics import mean_reciprocal_rank, recall_at
from app.evaluation import documents_of, read_articles
from benchmarks.measure import DATA
from ingest import (
    DOCUMENT_MIGRATIONS,
    Corpus,
    Database,
    FoundPassage,
    NewDocument,
    ParserProcess,
    RetrievalOptions,
    SqliteDatabase,
    keyword_index,
    make_embedder,
    openvino_hidden_states,
)

_DEPTH = 20
_QUESTIONS = {True: 200, False: 2000}  # quick
_CMRC_QUESTIONS = {True: 100, False: 1412}
_OTHERS = ("squad-v2.0-dev23.json", "squadshifts-amazon.json")
_OTHER_QUESTIONS = 1000
_TERSE_WORDS = 3
_SEARCHES = Path(__file__).parent / "questions" / "dev36-searches.json"  # by a question's id, the same as a web search
_FIRST_STAGES = ("dense", "keyword", "hybrid")
_AT_ONCE = 64
_MODES = {
    "dense": RetrievalOptions("dense", rerank=False),
    "keyword": RetrievalOptions("keyword", rerank=False),
    "hybrid": RetrievalOptions("hybrid", rerank=False),
    "reranked": RetrievalOptions("hybrid", rerank=True, candidates=_DEPTH),
}


class CachedEmbedder:
    """The service's embedder, which remembers in a folder what it embedded."""

    def __init__(self, folder: Path) -> None:
        self._inner = make_embedder()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.fingerprint = self._inner.fingerprint
        self.dimension = self._inner.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As ``Embedder.encode``."""
        files = [self._file(text) for text in texts]
        missing = [i for i, file in enumerate(files) if not file.is_file()]
        if missing:
            for i, vector in zip(missing, self._inner.encode([texts[i] for i in missing]), strict=True):
                np.save(files[i], vector)
        return np.stack([np.load(file) for file in files]).astype(np.float32)  # [n, d]

    def _file(self, text: str) -> Path:
        key = hashlib.sha256(f"{self.fingerprint}\0{text}".encode("utf-8", "replace")).hexdigest()
        return self._folder / f"{key}.npy"


@dataclass(frozen=True, slots=True)
class _Set:
    """A question set in a collection of a corpus; documents by paragraph."""

    corpus: Corpus
    collection: str
    documents: dict[str, str]


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of question sets (default: ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="fewer questions, with more noise")
    parser.add_argument("--cache", type=Path, help="folder to keep vectors in (default: none is kept)")
    parser.add_argument("--questions", type=int, help="how many of each set at most (default: 2000, quick: 200)")
    parser.add_argument("--others", nargs="*", help=f"further sets, files of --data (default: {' '.join(_OTHERS)}; "
                        "quick: none)")  # fmt: skip
    parser.add_argument("--no-rerank", action="store_true", help="leave reranking out, the slowest part")
    given = parser.parse_args()
    squad, cmrc = given.data / "squad-v1.1-dev36.json", given.data / "cmrc2018-dev400.json"
    others = given.others if given.others is not None else [] if given.quick else _OTHERS
    for file in (squad, cmrc, *(given.data / name for name in others)):
        if not file.is_file():
            parser.error(f"no such file: {file}. Give the folder of the question sets with --data.")
    with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
        database = SqliteDatabase(Path(folder) / "lorebase.db", {"documents": DOCUMENT_MIGRATIONS})
        rerank = reranker_is_there() and not given.no_rerank
        reranker = EmbeddedReranker(compile_encoder=openvino_hidden_states) if rerank else None
        corpus = Corpus(database, CachedEmbedder(given.cache or Path(folder) / "vectors"), reranker=reranker)
        try:
            asked = _asked(squad, given.questions or _QUESTIONS[given.quick])
            stored = _store(database, corpus, squad)
            result: dict[str, Any] = {"questions": len(asked), **_figures(stored, asked, tuple(_MODES), reranker)}
            sets = {"dev36": {name: result[name] for name in _FIRST_STAGES}}
            shortened = [replace(question, question=terse(question.question)) for question in asked]
            sets["dev36-terse"] = _figures(stored, shortened, _FIRST_STAGES, reranker)
            sets["dev36-searches"] = _figures(stored, _searches(squad), _FIRST_STAGES, reranker)
            for name in others:
                file = given.data / name
                questions = _asked(file, min(given.questions or _OTHER_QUESTIONS, _OTHER_QUESTIONS))
                sets[file.stem] = _figures(_store(database, corpus, file), questions, _FIRST_STAGES, reranker)
            result["sets"] = sets
            result["hybrid_least_margin"] = round(min(map(_margin, sets.values())), 4)
            result["cmrc_recall@5"] = _cmrc_recall(
                _store(database, corpus, cmrc), _asked(cmrc, given.questions or _CMRC_QUESTIONS[given.quick])
            )
        finally:
            corpus.close()
            database.close()
    print(json.dumps(result))


def terse(question: str) -> str:
    """A question as it may be typed into a search box: its three longest telling words in their order, lower case."""
    words = keyword_index.telling_words(question)
    kept = sorted(sorted(range(len(words)), key=lambda i: -len(words[i]))[:_TERSE_WORDS])
    return " ".join(words[i].lower() for i in kept)


def _searches(squad: Path) -> list[Question]:
    """The questions that stand in `_SEARCHES`, in the words that stand there."""
    words: dict[str, str] = json.loads(_SEARCHES.read_text())
    return [replace(question, question=words[question.id]) for question in read_squad(squad) if question.id in words]


def _margin(figures: dict[str, Any]) -> float:
    """Hybrid search above the better of the other two in recall@5; below zero where it is worse."""
    dense, keyword, hybrid = (float(figures[name]["recall@5"]) for name in _FIRST_STAGES)
    return hybrid - max(dense, keyword)


def _figures(
    stored: _Set, questions: Sequence[Question], modes: Sequence[str], reranker: object | None
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in modes:
        options = _MODES[name]
        if name == "reranked" and reranker is None:
            result[name] = None
            continue
        ranks: list[int | None] = []
        began = time.perf_counter()
        for question in questions:
            found = stored.corpus.search(question.question, _DEPTH, None, stored.collection, options)
            ranks.append(_rank(found, question, stored.documents[question.context]))
        figures = {f"recall@{k}": _rounded(recall_at(ranks, k)) for k in (1, 5, 20)}
        figures["mrr"] = _rounded(mean_reciprocal_rank(ranks))
        result[name] = figures | {"ms": round((time.perf_counter() - began) * 1000 / len(questions), 1)}
        print(f"{stored.collection} {name}: {result[name]}", flush=True)
    return result


def _cmrc_recall(stored: _Set, questions: Sequence[Question]) -> float | None:
    ranks: list[int | None] = []
    for question in questions:
        found = stored.corpus.search(question.question, 5, None, stored.collection, _MODES["hybrid"])
        texts = [answer.text for answer in question.answers]
        ranks.append(next((rank for rank, p in enumerate(found, 1) if any(t in p.text for t in texts)), None))
    return _rounded(recall_at(ranks, 5))


def _store(database: Database, corpus: Corpus, file: Path) -> _Set:
    """Every paragraph of a set as a document, in a collection of its own."""
    sources = documents_of(read_articles(file), "paragraph")
    collection, ids = file.stem, []
    with database.write() as connection:
        for source in sources:
            new = NewDocument(source.title, source.title, source.text.encode(), collection=collection, is_text=True)
            ids.append(corpus.add(connection, new).id)
    parser = ParserProcess()
    try:
        for begin in range(0, len(ids), _AT_ONCE):
            corpus.process_many(ids[begin : begin + _AT_ONCE], parser)
            print(f"\r{collection}: {begin + _AT_ONCE} of {len(ids)} paragraphs", end="", flush=True)
    finally:
        parser.close()
        print()
    return _Set(corpus, collection, {source.text: id_ for source, id_ in zip(sources, ids, strict=True)})


def _asked(file: Path, count: int) -> list[Question]:
    questions = [question for question in read_squad(file) if question.answerable]
    return random.Random(0).sample(questions, min(count, len(questions)))


def _rank(found: Sequence[FoundPassage], question: Question, document: str) -> int | None:
    for rank, passage in enumerate(found, 1):
        if passage.document_id == document and any(
            passage.start < answer.start + len(answer.text) and answer.start < passage.end
            for answer in question.answers
        ):
            return rank
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    main()
