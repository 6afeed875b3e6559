"""Training pairs without people (RLAIF): a model answers a set's questions several times, and a judge prefers.

The pairs are stored as a set like any other and trained on by `dpo` or `kto`. Everything that is drawn follows from the
job's seed, so a job that a crash interrupted begins again and comes to the same pairs. Knows corpora, the engine and
stored sets; knows no HTTP.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from adapters import ABSTENTION, Done, Engine, Event, Failed, Passage, Row, Submission
from adapters.errors import QueueFull, RequestTooLong
from adapters.training import TrainingExample
from app.completion import EngineCompletion
from app.dataset_sources import sources_of
from app.judging import Judge, Preference, by_manner, by_model, by_rule
from app.task_worker import Control, TaskFailed
from app.tasks import Task
from app.workspace import Workspace
from ingest import CompletionFailed, CompletionTooLong

_MAX_TOKENS = 128  # of a sampled answer
_GLANCE_SECONDS = 0.2
_BUSY_SECONDS = 0.5
_AWAY_SECONDS = 60.0  # that a judge may be away, once it has answered
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
        unjudged, why = 0, ""
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
                except (CompletionFailed, CompletionTooLong) as error:
                    unjudged, why = unjudged + 1, str(error)
                    continue
                if preferred is not None:
                    pairs.append(
                        TrainingExample(
                            example.question, (preferred.chosen,), passages, example.document, preferred.rejected
                        )
                    )
        if not pairs:
            raise TaskFailed(_nothing_preferred(len(asked), unjudged, why))
        control.report("storing", done=len(asked), total=len(asked))
        sources = sources_of(workspace.corpus, pairs)
        made = workspace.datasets.add(pairs, request["name"], "judged", [], sources)[0]
        return {
            "dataset": made.id, "examples": made.examples, "questions_tried": len(asked), "unjudged": unjudged,
        }  # fmt: skip

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
                _wait_for_judge(engine, 0.0, control)
                complete = EngineCompletion(engine, workspace.tenant_id, control.stopping, whole=False)
                yield _patient(by_model(complete, wanted["standard"]), engine, control)
            finally:
                if engine is not self._engine:
                    engine.close()

        @contextmanager
        def rule() -> Iterator[Judge]:
            yield by_manner(wanted["begins_with"]) if "begins_with" in wanted else by_rule(wanted["rule"])

        return model() if wanted.get("standard") else rule()


def _patient(judge: Judge, engine: Engine, control: Control) -> Judge:
    """A judge that is asked once more when its engine went away meanwhile and is back."""

    def judge_when_there(question: str, passages: Sequence[Passage], answers: Sequence[str]) -> Preference | None:
        try:
            return judge(question, passages, answers)
        except CompletionFailed:
            if engine.failure is None:
                raise
        _wait_for_judge(engine, _AWAY_SECONDS, control)
        return judge(question, passages, answers)

    return judge_when_there


def _wait_for_judge(engine: Engine, seconds: float, control: Control) -> None:
    """Until the judge's engine can be asked. Raises TaskFailed when it is away for longer."""
    deadline = time.monotonic() + seconds
    while (reason := engine.failure) is not None:
        if time.monotonic() > deadline:
            raise TaskFailed(f"The judge cannot be asked: {reason} Start this again when it answers.")
        control.check()
        time.sleep(_BUSY_SECONDS)


def _nothing_preferred(asked: int, unjudged: int, why: str) -> str:
    if unjudged == asked:
        return f"The judge gave a verdict on none of {asked} questions: {why}"
    return (
        f"The judge preferred no answer to any of {asked} questions: their answers were alike, equally good to it, or "
        "it named neither. Raise temperature or samples, or choose another judge."
    )


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
