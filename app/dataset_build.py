"""Training sets made from a tenant's own documents: a question, its answer, and the passage that holds it.

A language model is asked to write them; for the reader, the rules of `app.question_rules` make them. Each is kept only
when asking it, by the tenant's own search and model, brings the passage and the answer back. Sets are held out by
document. What a model answers rightly teaches it little: such a set is a floor for what must not get worse, and gains
come from corrections and from questions people write. Knows corpora, the engine and stored sets; knows no HTTP.
"""

from __future__ import annotations

import hashlib
import queue
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters import Done, Engine, Event, Failed, Passage, Row
from adapters.squad import f1_score
from adapters.training import TrainingExample, find_answer
from app.completion import EngineCompletion
from app.dataset_sources import ready_documents, sources_of
from app.datasets import Dataset
from app.question_rules import questions_of
from app.task_worker import Control, TaskFailed
from app.tasks import Task
from app.workspace import Workspace
from ingest import CompletionFailed, CompletionTooLong, DocumentRecord, StoredChunk, UnknownDocument
from ingest.sentences import sentences

_TOP_K = 5
_FOUND = 0.5  # token F1 from which an answer counts as found again
_PAGE = 200
_TASK = (
    "Write one question that the text answers, and the shortest answer to it in the text's own words. Reply with two "
    "lines: 'Question: …' and 'Answer: …'."
)
_MARK = re.compile(r" ?\[\d+\]")
_REPLY = re.compile(r"Question:\s*(?P<question>[^\n]+\?)\s*\n+\s*Answer:\s*(?P<answer>[^\n]+)")


@dataclass
class _Counts:
    tried: int = 0
    found: int = 0


class DatasetBuilds:
    """Builds sets, as the function of a task (`app.task_worker.TaskFunction`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, workspace: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        """Build a set and the one held out; ids and counts. Nothing is stored before all is done."""
        request, counts = task.request, _Counts()
        documents = _documents(workspace, request["documents"])
        limit, share = int(request["limit"]), float(request["held_out"])
        kept: dict[bool, list[TrainingExample]] = {False: [], True: []}
        for number, document in enumerate(documents):
            control.report("asking", done=number, total=len(documents))
            for example in self._examples(workspace, document, control, counts):
                kept[is_held_out(document.id, share)].append(example)
                if len(kept[False]) >= limit:
                    break
            if len(kept[False]) >= limit:
                break
        if not kept[False]:
            raise TaskFailed(
                f"Of {counts.tried} questions made from {len(documents)} documents none was found again by search and "
                "answered as the text says. Send a set of your own (POST /datasets), or train on corrections."
            )
        control.report("storing", done=len(documents), total=len(documents))
        name = request["name"]
        made = _store(workspace, kept[False], name)
        held: Dataset | None = None
        if kept[True]:
            held = _store(workspace, kept[True], held_out_name(name) if name else None)
        return {
            "dataset": made.id,
            "held_out": held.id if held else None,
            "examples": made.examples,
            "held_out_examples": held.examples if held else 0,
            "questions_tried": counts.tried,
        }

    def _examples(
        self, workspace: Workspace, document: DocumentRecord, control: Control, counts: _Counts
    ) -> Iterator[TrainingExample]:
        asked: set[str] = set()
        for chunk in _chunks(workspace, document.id):
            for question, answer, start in self._questions(workspace, control, chunk):
                control.check()
                if question in asked:
                    continue
                asked.add(question)
                counts.tried += 1
                if self._comes_back(workspace, chunk, question, answer):
                    counts.found += 1
                    passage = Passage(chunk.text, document.title)
                    yield TrainingExample(question, (answer,), (passage,), document.id, start=start)

    def _questions(self, workspace: Workspace, control: Control, chunk: StoredChunk) -> Iterator[tuple[str, str, int]]:
        """Questions with their answers and where these stand in the chunk."""
        if not self._engine.generates:
            for begin, end in sentences(chunk.text):
                for question, answer, at in questions_of(chunk.text[begin:end]):
                    yield question, answer, begin + at
            return
        complete = EngineCompletion(self._engine, workspace.tenant_id, control.stopping)
        try:
            match = _REPLY.search(_MARK.sub("", complete(_TASK, [chunk.text], 96)))
        except (CompletionFailed, CompletionTooLong):  # no question of this chunk
            return
        sought = match["answer"].strip().rstrip(".") if match is not None else ""
        if match is not None and sought and (start := find_answer(chunk.text, sought)) >= 0:
            yield match["question"].strip(), chunk.text[start : start + len(sought)], start

    def _comes_back(self, workspace: Workspace, chunk: StoredChunk, question: str, answer: str) -> bool:
        """Whether asking brings the chunk, and the answer out of it."""
        found = workspace.corpus.search(question, _TOP_K, options=workspace.retrieval)
        if all(passage.chunk_id != chunk.id for passage in found):
            return False
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        passages = tuple(Passage(p.text, p.title) for p in found)
        self._engine.submit(Row(question, passages, max_tokens=64, share_key=workspace.tenant_id), events.put)
        while not isinstance(event := events.get(), Done):
            if isinstance(event, Failed):
                raise event.error
        return f1_score(event.answer, [answer]) >= _FOUND


def held_out_name(name: str) -> str:
    """What the set held out beside one of this name is called."""
    return f"{name[:54]}-held-out"


def is_held_out(document_id: str, share: float) -> bool:
    """Whether a document is kept out of training: always the same ones, by a hash of their id."""
    return int(hashlib.sha256(document_id.encode()).hexdigest()[:8], 16) < share * 2**32


def _documents(workspace: Workspace, ids: list[str] | None) -> list[DocumentRecord]:
    if ids is not None:
        return [workspace.corpus.document(each) for each in dict.fromkeys(ids)]
    found = list(ready_documents(workspace.corpus))
    if not found:
        raise TaskFailed("There is no document that is ready. Ingest some first.")
    return found


def _store(workspace: Workspace, examples: list[TrainingExample], name: str | None) -> Dataset:
    return workspace.datasets.add(examples, name, "documents", [], sources_of(workspace.corpus, examples))[0]


def _chunks(workspace: Workspace, document_id: str) -> Iterator[StoredChunk]:
    offset = 0
    while True:
        try:
            page, total = workspace.corpus.chunks(document_id, _PAGE, offset)
        except UnknownDocument:  # deleted meanwhile
            return
        yield from page
        offset += len(page)
        if not page or offset >= total:
            return
