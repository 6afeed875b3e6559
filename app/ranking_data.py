"""What the reranker is trained on: questions, the passage that answers, and what retrieval finds beside it.

The passages are found by the service's own search over the paragraphs of the question sets, so that the reranker learns
from what it will be given. Mined once into a folder and kept there. Knows question sets and corpora; knows no training.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from adapters.squad import Question, normalize_answer, read_squad
from adapters.training import RankingCase, RankingExample, is_held_out
from ingest import (
    DOCUMENT_MIGRATIONS,
    Corpus,
    Database,
    Embedder,
    FoundPassage,
    NewDocument,
    ParserProcess,
    RetrievalOptions,
    SqliteDatabase,
    embedded_text,
)

Mined = TypeVar("Mined", RankingExample, RankingCase)
_MINED = "mined.json"
_PARAGRAPHS = 1_600  # of each set, in its order: paragraphs of one article are each other's hardest neighbours
_DEPTH = 20
_NEAREST = 2  # negatives taken from the top; the others are drawn from below
_OPTIONS = RetrievalOptions(rerank=False)


@dataclass(frozen=True, slots=True)
class RankingData:
    """Examples to train on, and cases of held-out paragraphs."""

    examples: list[RankingExample]
    held_out: list[RankingCase]


def ranking_data(
    sets: Sequence[Path],
    folder: Path,
    embedder: Embedder,
    *,
    questions: int,
    held_out: int,
    negatives: int,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> RankingData:
    """Mine examples from question sets, in equal shares; what ``folder`` holds from an earlier call is used again.

    Args:
        questions: how many examples at most.
        held_out: how many cases at most.
        negatives: passages beside the one that answers, at most.
        report: told what is done: a phase's name, how many of how many.

    Raises:
        InvalidTrainingData: a set cannot be read.
    """
    path = folder / _MINED
    if path.is_file():
        return _read(path)
    read = [_first_paragraphs(read_squad(each), _PARAGRAPHS) for each in sets]
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[RankingExample] = []
    cases: list[RankingCase] = []
    for number, asked in enumerate(read, start=1):
        database = SqliteDatabase(folder / f"set-{number}.db", {"documents": DOCUMENT_MIGRATIONS})
        try:
            miner = _Miner(Corpus(database, embedder), database, negatives)
            miner.ingest(asked, report)
            shuffled = random.Random(number).sample(asked, len(asked))
            kept = [q for q in shuffled if is_held_out(q)]
            trained = [q for q in shuffled if not is_held_out(q)]
            examples += _taken(map(miner.example, trained), questions // len(read), "questions", report)
            cases += _taken(map(miner.case, kept), held_out // len(read), "held out", report)
        finally:
            database.close()
    data = RankingData(examples, cases)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(data), ensure_ascii=False))
    os.replace(temporary, path)
    return data


class _Miner:
    """The paragraphs of a question set as documents of a corpus."""

    def __init__(self, corpus: Corpus, database: Database, negatives: int) -> None:
        self._corpus = corpus
        self._database = database
        self._negatives = negatives
        self._documents: dict[str, str] = {}

    def ingest(self, questions: Sequence[Question], report: Callable[[str, int, int], None]) -> None:
        paragraphs = list(dict.fromkeys((q.article, q.context) for q in questions))
        with self._database.write() as connection:
            for article, context in paragraphs:
                document = NewDocument(article, article, context.encode(), is_text=True)
                self._documents[context] = self._corpus.add(connection, document).id
        ids = list(self._documents.values())
        parser = ParserProcess()
        try:
            for begin in range(0, len(ids), 64):
                report("paragraphs", begin, len(ids))
                self._corpus.process_many(ids[begin : begin + 64], parser)
        finally:
            parser.close()

    def example(self, question: Question) -> RankingExample | None:
        """The question with its passage and neighbours; ``None`` when retrieval does not find the passage."""
        found = self._corpus.search(question.question, _DEPTH, options=_OPTIONS)
        right = [passage for passage in found if self._holds(passage, question)]
        golds = [f" {normalize_answer(answer.text)} " for answer in question.answers]
        wrong = [p for p in found if not any(gold in f" {normalize_answer(p.text)} " for gold in golds)]
        if not right or not wrong:
            return None
        rng = random.Random(question.id)
        below = wrong[_NEAREST:]
        chosen = wrong[: min(_NEAREST, self._negatives)]
        chosen += rng.sample(below, max(0, min(self._negatives - len(chosen), len(below))))
        return RankingExample(question.question, tuple(embedded_text(p.title, p.text) for p in [right[0], *chosen]))

    def case(self, question: Question) -> RankingCase | None:
        found = self._corpus.search(question.question, _DEPTH, options=_OPTIONS)
        return RankingCase(
            question.question,
            tuple(embedded_text(p.title, p.text) for p in found),
            tuple(p.scores.fused or 0.0 for p in found),
            tuple(self._holds(p, question) for p in found),
        )

    def _holds(self, passage: FoundPassage, question: Question) -> bool:
        return passage.document_id == self._documents[question.context] and any(
            passage.start < answer.start + len(answer.text) and answer.start < passage.end
            for answer in question.answers
        )


def _first_paragraphs(questions: Sequence[Question], count: int) -> list[Question]:
    """The answerable questions of a set's first paragraphs."""
    first = set(list(dict.fromkeys(q.context for q in questions))[:count])
    return [q for q in questions if q.context in first and q.answerable]


def _taken(
    mined: Iterator[Mined | None], count: int, what: str, report: Callable[[str, int, int], None]
) -> list[Mined]:
    """The first ``count`` that are there."""
    taken: list[Mined] = []
    for each in mined:
        if len(taken) >= count:
            break
        if each is not None:
            taken.append(each)
        report(what, len(taken), count)
    return taken


def _read(path: Path) -> RankingData:
    stored = json.loads(path.read_text())
    return RankingData(
        [RankingExample(e["question"], tuple(e["passages"])) for e in stored["examples"]],
        [
            RankingCase(c["question"], tuple(c["passages"]), tuple(c["fused"]), tuple(c["answers"]))
            for c in stored["held_out"]
        ],
    )
