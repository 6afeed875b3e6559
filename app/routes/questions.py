"""Search and ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from app.answering import AnswerPiece, Retrieved, answer, find
from app.disconnects import unless_gone
from app.metrics import Outcome
from app.problems import Problem, problem_of
from app.reach import narrowed_request
from app.routes.dependencies import CurrentPrincipal, CurrentService, CurrentWorkspace, ReadyEngine, ReadySearch
from app.schemas import AskRequest, AskResponse, PassageResponse, SearchRequest, SearchResponse
from app.service import Service
from app.tracing import Walk
from app.workspace import Workspace

router = APIRouter(tags=["questions"])
T = TypeVar("T")
Steps = AsyncGenerator[Retrieved | AnswerPiece | AskResponse]
AdapterHeader = Annotated[
    str | None, Header(alias="X-Adapter", description="`name`, `name@version` or `base`; unset: the tenant's default.")
]


SessionHeader = Annotated[
    str | None,
    Header(alias="X-Session-Id", max_length=200, description="A session stays in one arm of a canary."),
]


@router.post("/search")
async def search(
    body: SearchRequest,
    request: Request,
    principal: CurrentPrincipal,
    workspace: CurrentWorkspace,
    service: CurrentService,
    _: ReadySearch,
) -> SearchResponse:
    """The passages most like the query."""
    body = narrowed_request(principal, body)
    refuse_long("query", body.query, service)
    return SearchResponse(passages=await unless_gone(request, _found(workspace, body, service)))


async def _found(workspace: Workspace, body: SearchRequest, service: Service) -> list[PassageResponse]:
    with await service.turns.begin(workspace.tenant_id):
        return await find(workspace, body.query, body)


@router.post("/ask", response_model=AskResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def ask(
    body: AskRequest,
    request: Request,
    principal: CurrentPrincipal,
    workspace: CurrentWorkspace,
    service: CurrentService,
    engine: ReadyEngine,
    x_adapter: AdapterHeader = None,
    x_session_id: SessionHeader = None,
) -> Response:
    """Answer a question from the tenant's documents, with citations. `stream: true` answers as server-sent events."""
    body = narrowed_request(principal, body)
    refuse_long("question", body.question, service)
    for turn in body.history:
        refuse_long("history", turn.question, service)
    choice = await asyncio.to_thread(workspace.erasures.choose, x_adapter, x_session_id or request.state.request_id)
    template = await asyncio.to_thread(workspace.templates.select, body.template)
    steps = answer(
        workspace, engine, choice.selection, template, body, request.state.request_id,
        warnings=choice.warnings, turns=service.turns,
    )  # fmt: skip
    steps = counted(steps, request, service, workspace, choice.headers["X-Adapter-Used"])
    if body.stream:
        return StreamingResponse(
            _stream(steps), media_type="text/event-stream", headers={**choice.headers, "Cache-Control": "no-store"}
        )
    response = await unless_gone(request, whole(steps))
    return Response(response.model_dump_json(), media_type="application/json", headers=choice.headers)


async def counted(steps: Steps, request: Request, service: Service, workspace: Workspace, adapter: str) -> Steps:
    """The same steps; how they end is counted, and the stages' times are noted for the log of slow requests."""
    outcome: Outcome = "failed"
    timings: dict[str, float] = {}
    prompt_tokens = completion_tokens = 0
    walk = Walk(request.state.request_id, workspace.tenant_id, request.headers.get("traceparent"))
    try:
        async with contextlib.aclosing(steps):
            async for step in steps:
                if isinstance(step, Retrieved):
                    walk.retrieved = time.time_ns()
                elif isinstance(step, AnswerPiece):
                    walk.piece()
                elif isinstance(step, AskResponse):
                    outcome = "abstained" if step.abstained else "answered"
                    timings = request.state.stages = step.timings_ms
                    prompt_tokens, completion_tokens = step.usage.prompt_tokens, step.usage.completion_tokens
                yield step
    except (asyncio.CancelledError, GeneratorExit):
        outcome = outcome if timings else "cancelled"
        raise
    finally:
        service.metrics.ask(outcome, timings, prompt_tokens, completion_tokens)
        if service.tracing is not None:
            tokens = {"lorebase.prompt_tokens": prompt_tokens, "lorebase.completion_tokens": completion_tokens}
            service.tracing.ended(walk, outcome, adapter, tokens)
        workspace.usage.add(questions=1, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


async def whole(steps: Steps) -> AskResponse:
    """The response a walk ends with."""
    async with contextlib.aclosing(steps):
        async for step in steps:
            if isinstance(step, AskResponse):
                return step
    raise RuntimeError("the engine ended without an answer")


async def _stream(steps: Steps) -> AsyncIterator[str]:
    try:
        async with contextlib.aclosing(steps):
            async for step in steps:
                match step:
                    case Retrieved():
                        yield server_sent_event("passages", {"passages": [_plain(p) for p in step.passages]})
                    case AnswerPiece():
                        yield server_sent_event("token", {"text": step.text})
                    case _:
                        yield server_sent_event("done", _plain(step))
    except Exception as error:
        problem = problem_of(error)
        yield server_sent_event(
            "error",
            {"status": problem.status_code, "code": problem.code, "detail": problem.detail, **problem.fields},
        )


def server_sent_event(event: str, data: Any) -> str:
    """One event in text/event-stream form."""
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _plain(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def refuse_long(field: str, text: str, service: Service) -> None:
    """Raise Problem 422 for a text over the limit for questions."""
    longest = service.settings.max_question_chars
    if len(text) > longest:
        raise Problem(422, "too_long", f"{field}: {len(text)} characters are too many; {longest} are the limit.")
