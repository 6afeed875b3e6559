"""Training pairs without people (RLAIF): a model answers a set's questions several times, and a judge prefers.

The pairs are stored as a set like any other and trained on by `dpo` or `kto`. Everything that is drawn follows from the
job's seed, so a job that a crash interrupted begins again and comes to the same pairs. Knows corpora, the engine and
stored sets; knows no HTTP.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from adapters import ABSTENTION, Done, Engine, Event, Failed, Passage, Row, Submission
from adapters.errors import QueueFull, RequestTooLong
from adapters.training import TrainingExample
from app.completion import EngineCompletion
from app.dataset_sources import sources_of
from app.judging import Judge, by_manner, by_model, by_rule
from app.task_worker import Control, TaskFailed
from app.tasks import Task
from app.workspace import Workspace
from ingest import CompletionFailed, CompletionTooLong

_MAX_TOKENS = 128  # of a sampled answer
_GLANCE_SECONDS = 0.2
_BUSY_SECONDS = 0.5
_SEEDS = 2**31
MakeEngine = Callable[[], Engine]


class PreferenceBuilds:
    """Builds sets of preferred and rejected answers, as the function of a task (`app.task_worker.TaskFunction`).

    Args:
        engine: answers the questions, and judges where no other does.
        make_judge: makes the engine of the judge, not loaded; None: ``engine`` judges.
    """

    def __init__(self, engine: Engine, make_judge: MakeEngine | None = None) -> None:
        self._engine = engine
        self._make_judge = make_judge

    def run(self, workspace: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        """Build a set; its id and counts. Nothing is stored before all is done."""
        request = task.request
        asked = workspace.datasets.examples(request["dataset"])[: int(request["limit"])]
        selection = workspace.adapters.select(request["adapter"])
        adapter = selection.ref if selection is not None else None
        pairs: list[TrainingExample] = []
        with self._judge(workspace, request["judge"], control) as judge:
            for number, example in enumerate(asked):
                control.report("asking", done=number, total=len(asked))
                passages = example.passages or _retrieved(workspace, example.question, int(request["top_k"]))
                row = Row(
                    example.question,
                    passages,
                    adapter,
                    _MAX_TOKENS,
                    share_key=workspace.tenant_id,
                    cache_salt=workspace.tenant_id,
                    temperature=float(request["temperature"]),
                    seed=int(request["seed"]) + number * int(request["samples"]),
                )
                answers = self._sampled(row, int(request["samples"]), control)
                try:
                    preferred = judge(example.question, passages, answers)
                except (CompletionFailed, CompletionTooLong):  # no verdict on this question
                    continue
                if preferred is not None:
                    pairs.append(
                        TrainingExample(
                            example.question, (preferred.chosen,), passages, example.document, preferred.rejected
                        )
                    )
        if not pairs:
            raise TaskFailed(
                f"The judge preferred no answer to any of {len(asked)} questions: their answers were alike, or equally "
                "good to it. Raise temperature or samples, or choose another judge."
            )
        control.report("storing", done=len(asked), total=len(asked))
        sources = sources_of(workspace.corpus, pairs)
        made = workspace.datasets.add(pairs, request["name"], "judged", [], sources)[0]
        return {"dataset": made.id, "examples": made.examples, "questions_tried": len(asked)}

    def _sampled(self, row: Row, samples: int, control: Control) -> list[str]:
        """Different answers to a row: the likeliest, and drawn ones, each with a seed of its own."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        under_way: list[Submission] = []
        try:
            for n in range(samples):
                drawn = replace(row, seed=((row.seed or 0) + n) % _SEEDS, temperature=row.temperature if n else 0.0)
                under_way.append(self._submit(drawn, events.put, control))
            answers = [_end(events, control) for _ in range(samples)]
        except RequestTooLong:
            return []
        finally:
            for submission in under_way:
                submission.cancel()
        return sorted({answer for answer in answers if answer})  # the order they end in is chance

    def _submit(self, row: Row, deliver: Callable[[Event], None], control: Control) -> Submission:
        while True:
            try:
                return self._engine.submit(row, deliver)
            except QueueFull:  # people come first
                control.check()
                time.sleep(_BUSY_SECONDS)

    def _judge(
        self, workspace: Workspace, wanted: Mapping[str, Any], control: Control
    ) -> AbstractContextManager[Judge]:
        @contextmanager
        def model() -> Iterator[Judge]:
            engine = self._engine if self._make_judge is None else self._make_judge()
            try:
                if engine is not self._engine:
                    engine.load()
                yield by_model(EngineCompletion(engine, workspace.tenant_id, control.stopping), wanted["standard"])
            finally:
                if engine is not self._engine:
                    engine.close()

        @contextmanager
        def rule() -> Iterator[Judge]:
            yield by_manner(wanted["begins_with"]) if "begins_with" in wanted else by_rule(wanted["rule"])

        return model() if wanted.get("standard") else rule()


def _retrieved(workspace: Workspace, question: str, top_k: int) -> tuple[Passage, ...]:
    found = workspace.corpus.search(question, top_k, options=workspace.retrieval)
    return tuple(Passage(passage.text, passage.title) for passage in found)


def _end(events: queue.SimpleQueue[Event], control: Control) -> str:
    """The next answer that ends; an abstention is the sentence that says so."""
    while True:
        control.check()
        try:
            event = events.get(timeout=_GLANCE_SECONDS)
        except queue.Empty:
            continue
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Done):
            return ABSTENTION if event.abstained else event.answer.strip()
