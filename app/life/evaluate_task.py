"""Does evaluations: asks a plan's questions in each way through the very path that requests take, in the background.

Goes on behind the last kept outcome after a crash or restart. Knows answering, rows and what outcomes come to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from adapters import Engine, Selection
from adapters.errors import QueueFull, RequestTooLong
from app.answer_metrics import DEPTH, first_rank
from app.answering import answer, passage_response
from app.life import gate
from app.life.comparison import Asked, compare
from app.life.evaluations import Evaluation, Passages, Way
from app.life.question_sets import Item
from app.schemas import AskRequest, AskResponse, GivenPassage
from app.task_worker import Control, TaskFailed
from app.tasks import Task
from app.templates import StoredTemplate, UnknownTemplate
from app.workspace import Workspace

_KEEP_SECONDS = 1.0
_BUSY_SECONDS = 0.5


class Evaluations:
    """Does evaluations on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, workspace: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        """Do one, from where it was left. A `app.task_worker.TaskFunction`."""
        evaluation = workspace.evaluations.of_job(task.job_id)
        if evaluation is None:
            raise TaskFailed("The evaluation was deleted.")
        try:
            outcomes = _Asking(workspace, self._engine, evaluation, control).run()
            result = compare(evaluation.plan.ways, outcomes["questions"])
            if evaluation.plan.gate is not None:
                result |= gate.conclude(workspace, evaluation, outcomes)
        except UnknownTemplate as error:
            raise TaskFailed(str(error)) from error
        workspace.evaluations.conclude(evaluation, result)
        return {"evaluation_id": evaluation.id}


class _Asking:
    """One evaluation under way."""

    def __init__(self, workspace: Workspace, engine: Engine, evaluation: Evaluation, control: Control) -> None:
        self._workspace = workspace
        self._engine = engine
        self._evaluation = evaluation
        self._plan = evaluation.plan
        self._control = control
        self._selections: dict[str, Selection | None] = {
            way.key: workspace.adapters.select(way.adapter) for way in self._plan.ways
        }
        self._template: StoredTemplate = workspace.templates.select(self._plan.template)

    def run(self) -> dict[str, dict[str, list[Asked]]]:
        """All outcomes, by set and way, in the order of the questions."""
        store = self._workspace.evaluations
        sets = store.items(self._evaluation)
        done = store.outcomes(self._evaluation)
        total = sum(len(items) for items in sets.values()) * len(self._plan.ways)
        fresh: dict[tuple[str, int, str], Asked] = {}
        resumed = len(done)
        began = kept = time.monotonic()
        self._report(resumed, total, began, 0)
        try:
            for name, items in sets.items():
                for position, (item, passages) in enumerate(items):
                    rank = self._rank(item) if passages == "retrieved" and item.golds else None
                    for way in self._plan.ways:  # side by side, so that a busy machine slows all ways alike
                        if (name, position, way.key) in done:
                            continue
                        self._control.check()
                        fresh[name, position, way.key] = asyncio.run(self._ask(item, passages, way, rank))
                        if time.monotonic() - kept > _KEEP_SECONDS:
                            store.keep(self._evaluation, fresh)
                            done |= fresh
                            fresh, kept = {}, time.monotonic()
                            self._report(len(done), total, began, len(done) - resumed)
        finally:
            store.keep(self._evaluation, fresh)
        done |= fresh
        self._control.report("asking", done=len(done), total=total)
        return {
            name: {way.key: [done[name, i, way.key] for i in range(len(items))] for way in self._plan.ways}
            for name, items in sets.items()
        }

    async def _ask(self, item: Item, passages: Passages, way: Way, rank: int | None) -> Asked:
        plan = self._plan
        given = [GivenPassage(text=item.context)] if passages == "given" and item.context else None
        request = AskRequest(
            question=item.question,
            top_k=plan.top_k,
            filter=None if given else plan.filter,
            collection=None if given else plan.collection,
            min_confidence=plan.min_confidence,
            template=plan.template,
            passages=given if way.grounded else None,
        )
        began = time.perf_counter()
        try:
            response = await self._answer(request, way)
        except RequestTooLong:
            response = None
        milliseconds = (time.perf_counter() - began) * 1000
        if response is None:
            return Asked(item.texts, "", False, milliseconds, 0, refused=True)
        used = response.usage
        self._workspace.usage.add(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens)
        return Asked(
            golds=item.texts,
            answer=response.answer,
            abstained=response.abstained,
            milliseconds=milliseconds,
            tokens=response.usage.prompt_tokens + response.usage.completion_tokens,
            cited=_cites(response, item.texts),
            rank=rank if way.grounded else None,
        )

    async def _answer(self, request: AskRequest, way: Way) -> AskResponse | None:
        while True:
            steps = answer(
                self._workspace, self._engine, self._selections[way.key], self._template, request, "",
                grounded=way.grounded, keep=False,
            )  # fmt: skip
            try:
                return [step async for step in steps if isinstance(step, AskResponse)][-1]
            except QueueFull:  # people come first
                self._control.check()
                await asyncio.sleep(_BUSY_SECONDS)

    def _report(self, done: int, total: int, began: float, asked: int) -> None:
        eta = (total - done) * (time.monotonic() - began) / asked if asked else None
        self._control.report("asking", done=done, total=total, eta_seconds=eta)

    def _rank(self, item: Item) -> int | None:
        plan = self._plan
        found = self._workspace.corpus.search(
            item.question, DEPTH, plan.filter, plan.collection, self._workspace.retrieval
        )
        return first_rank([passage_response(each) for each in found], item.golds)


def _cites(response: AskResponse, golds: Sequence[str]) -> bool | None:
    """Whether a cited sentence holds a gold answer; None where there is nothing to tell."""
    if response.abstained or not golds or not response.citations:
        return None
    return any(gold.casefold() in citation.quote.casefold() for gold in golds for citation in response.citations)
