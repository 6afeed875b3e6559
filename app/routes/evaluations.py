"""Evaluations: question sets asked in several ways, side by side; and the gate before a promotion."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from adapters import BASE
from app.answer_metrics import Gold, Place
from app.evaluation_schemas import (
    EvaluateRequest,
    EvaluationPage,
    EvaluationResponse,
    EvaluationStarted,
    EvaluationSummary,
    EvaluationWay,
    GateRequest,
    GateVerdict,
    QuestionSet,
)
from app.life.advice import with_routes
from app.life.comparison import TITLES
from app.life.comparison_report import html_report, markdown_report
from app.life.evaluations import AskedSet, Evaluation, Plan, TooManyEvaluations, Way, new_evaluation_id
from app.life.gate import general_set
from app.life.question_sets import MOST_QUESTIONS, InvalidQuestionSet, Item, from_squad
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, Limit, Offset, ReadyEngine
from app.routes.jobs import wait_until_ended
from app.service import Service
from app.workspace import Workspace

router = APIRouter(tags=["evaluations"])
Wait = Annotated[bool, Query(description="Answer when it has ended.")]
_LOADS_NOTHING = "default-src 'none'; style-src 'unsafe-inline'"
_MOST_WAITING = 100  # evaluations of one tenant
_ENDED: dict[int | str, dict[str, Any]] = {200: {"model": EvaluationResponse, "description": "It has ended."}}
_QUOTES = "A reader quotes from passages: it has nothing to answer from without them."


@router.post("/evaluate", status_code=202, response_model=EvaluationStarted, responses=_ENDED)
async def evaluate(
    body: EvaluateRequest, workspace: CurrentWorkspace, service: CurrentService, engine: ReadyEngine, wait: Wait = False
) -> Response:
    """Ask a question set with and without documents, with and without an adapter, in the background.

    The answer names the job and the evaluation; with `wait=true` it is the evaluation, when it has ended.
    """
    selection = (await asyncio.to_thread(workspace.erasures.choose, body.adapter)).selection
    await asyncio.to_thread(workspace.templates.select, body.template)
    used = f"{selection.name}@{selection.version}" if selection else None
    ways = [Way("prompt_only", BASE, grounded=False), Way("rag", BASE)]
    if used is not None:
        ways += [Way("adapter", used, grounded=False), Way("rag_adapter", used)]
    impossible = () if engine.generates else tuple((way.key, _QUOTES) for way in ways if not way.grounded)
    asked = _asked_set(body)
    plan = Plan(
        ways=tuple(way for way in ways if way.grounded or engine.generates),
        top_k=body.top_k,
        collection=body.collection,
        filter=body.filter,
        min_confidence=_min_confidence(body, asked),
        template=body.template,
        impossible=impossible,
    )
    return await _start(workspace, service, "evaluate", body.name, plan, [asked], wait)


@router.post(
    "/adapters/{name}/versions/{version}/gate",
    status_code=202,
    response_model=EvaluationStarted,
    responses=_ENDED,
)
async def gate(
    name: str,
    version: int,
    body: GateRequest,
    workspace: CurrentWorkspace,
    service: CurrentService,
    _: ReadyEngine,
    wait: Wait = False,
) -> Response:
    """Promote a version only if it beats the base and the active version on a question set, and loses nothing on a
    general one.

    Otherwise it stays registered, with the reasons (`GET /adapters/{name}`). Runs in the background like an evaluation.
    """
    candidate = (await asyncio.to_thread(workspace.erasures.choose, f"{name}@{version}")).selection
    if candidate is None:  # `base` is no adapter
        raise not_found("adapter")
    active = workspace.adapters.get(name).active
    ways = [Way("base", BASE)]
    if active is not None and active != version:
        ways.append(Way("active", f"{name}@{active}"))
    ways.append(Way("candidate", f"{name}@{version}"))
    asked = _asked_set(body)
    decided = {"margin": body.margin, "tolerance": body.tolerance, "promote": body.promote}
    plan = Plan(
        ways=tuple(ways),
        top_k=body.top_k,
        collection=body.collection,
        filter=body.filter,
        min_confidence=_min_confidence(body, asked),
        gate={"adapter": name, "version": version, "active": active, **decided},
    )
    sets = [asked, AskedSet("general", general_set(), "given")]
    return await _start(workspace, service, "gate", body.name or f"gate of {name}@{version}", plan, sets, wait)


@router.get("/evaluations")
async def evaluations(workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0) -> EvaluationPage:
    """The tenant's evaluations and gates, newest first."""
    found, total = await asyncio.to_thread(workspace.evaluations.page, limit, offset)
    listed = [EvaluationSummary(**_facts(workspace, each)) for each in found]
    return EvaluationPage(total=total, offset=offset, limit=limit, evaluations=listed)


@router.get("/evaluations/{evaluation_id}")
async def evaluation(evaluation_id: str, workspace: CurrentWorkspace) -> EvaluationResponse:
    """An evaluation: its figures when it has ended."""
    return await asyncio.to_thread(_found, workspace, evaluation_id)


@router.get(
    "/evaluations/{evaluation_id}/report",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/markdown": {}}}},
)
async def report(
    evaluation_id: str, workspace: CurrentWorkspace, format: Literal["html", "markdown"] = "html"
) -> Response:
    """The report of an evaluation that has succeeded: a page by itself, or Markdown."""
    found = await asyncio.to_thread(_found, workspace, evaluation_id)
    if found.state != "succeeded":
        raise Problem(409, "not_ended", f"This evaluation is {found.state}; there is a report once it has succeeded.")
    if format == "markdown":
        return PlainTextResponse(markdown_report(found), media_type="text/markdown; charset=utf-8")
    return HTMLResponse(html_report(found), headers={"Content-Security-Policy": _LOADS_NOTHING})


@router.delete("/evaluations/{evaluation_id}", status_code=204)
async def remove(evaluation_id: str, workspace: CurrentWorkspace) -> Response:
    """Forget an evaluation with its questions and outcomes; one that runs fails."""
    if not await asyncio.to_thread(workspace.evaluations.remove, evaluation_id):
        raise not_found("evaluation")
    return Response(status_code=204)


async def _start(
    workspace: Workspace,
    service: Service,
    kind: Literal["evaluate", "gate"],
    name: str,
    plan: Plan,
    sets: list[AskedSet],
    wait: bool,
) -> Response:
    total = sum(len(each.items) for each in sets) * len(plan.ways)
    if not plan.ways:
        raise Problem(422, "not_supported", f"{_QUOTES} Choose an adapter, or let it retrieve.")

    evaluation_id = new_evaluation_id()
    store = partial(workspace.evaluations.add, evaluation_id, kind, name, plan, sets)
    request = {"evaluation_id": evaluation_id, "name": name}
    try:
        job_id = await asyncio.to_thread(
            workspace.tasks.add, kind, request, "answers", _MOST_WAITING, total=total, also=store
        )
    except TooManyEvaluations as error:
        raise Problem(409, "too_many_evaluations", str(error)) from error
    service.wake_tasks(workspace.tenant_id)
    if wait and await wait_until_ended(workspace, service, job_id):
        found = await asyncio.to_thread(_found, workspace, evaluation_id)
        return JSONResponse(found.model_dump(mode="json"), 200)
    return JSONResponse(EvaluationStarted(evaluation_id=evaluation_id, job_id=job_id).model_dump(), 202)


def _asked_set(body: QuestionSet) -> AskedSet:
    try:
        items = from_squad(body.data) if body.data is not None else [_item(q) for q in body.questions or ()]
    except InvalidQuestionSet as error:
        raise Problem(422, "invalid_question_set", str(error)) from error
    if not items:
        raise Problem(422, "invalid_question_set", "data: holds no questions.")
    if len(items) > MOST_QUESTIONS and body.limit is None:
        raise Problem(
            422, "invalid_question_set", f"{len(items)} questions are too many: {MOST_QUESTIONS} at most; set limit."
        )
    if body.limit is not None and body.limit < len(items):
        items = random.Random(body.seed).sample(items, body.limit)
    if body.passages == "given" and any(item.context is None for item in items):
        raise Problem(
            422, "invalid_question_set", "passages: 'given' needs a context with every question; some have none."
        )
    return AskedSet("questions", tuple(items), body.passages)


def _item(asked: Any) -> Item:
    golds = tuple(
        Gold(a.text, () if a.document_id is None else (Place(a.document_id, a.start, a.start + len(a.text)),))
        for a in asked.answers
    )
    return Item(asked.question, golds, asked.context)


def _min_confidence(body: QuestionSet, asked: AskedSet) -> float | None:
    """None leaves the model's own threshold, 0 never abstains."""
    may = body.abstain == "on" or (body.abstain == "auto" and any(not item.golds for item in asked.items))
    return None if may else 0.0


def _found(workspace: Workspace, evaluation_id: str) -> EvaluationResponse:
    found = workspace.evaluations.get(evaluation_id)
    if found is None:
        raise not_found("evaluation")
    result = found.result or {}
    figures = result.get("figures", {})
    ways = [
        EvaluationWay(way=way.key, title=TITLES[way.key], adapter=way.adapter, figures=figures.get(way.key))
        for way in found.plan.ways
    ]
    ways += [
        EvaluationWay(way=key, title=TITLES[key], adapter=_adapter_of(found.plan, key), impossible=reason)
        for key, reason in found.plan.impossible
    ]
    order = list(TITLES)
    return EvaluationResponse(
        **_facts(workspace, found),
        ways=sorted(ways, key=lambda way: order.index(way.way)),
        gate=_verdict(workspace, found),
        **{key: value for key, value in result.items() if key not in ("figures", "gate")},
    )


def _verdict(workspace: Workspace, found: Evaluation) -> GateVerdict | None:
    decided = (found.result or {}).get("gate")
    if decided is None:
        return None
    plan = found.plan.gate or {}
    may_promote = not workspace.policy.current.require_gate
    advice = with_routes(decided.get("advice"), plan["adapter"], plan["version"], may_promote=may_promote)
    return GateVerdict(**{**decided, "advice": advice})


def _adapter_of(plan: Plan, key: str) -> str:
    return BASE if key == "prompt_only" else next((w.adapter for w in plan.ways if w.key == "rag_adapter"), BASE)


def _facts(workspace: Workspace, found: Evaluation) -> dict[str, Any]:
    job = workspace.jobs.get(found.job_id)
    return {
        "id": found.id,
        "job_id": found.job_id,
        "kind": found.kind,
        "name": found.name,
        "state": job.state if job is not None else "failed",
        "error": job.error if job is not None else None,
        "questions": found.questions - (len(general_set()) if found.plan.gate else 0),
        "created_at": found.created_at,
    }
