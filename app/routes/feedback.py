"""Feedback: what people say of answers, joined to exactly what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from app.feedback_schemas import FeedbackPage, FeedbackRequest, FeedbackResponse
from app.life.answers import RatedAnswer, UnknownAnswer
from app.problems import Problem
from app.routes.dependencies import CurrentWorkspace, Limit, Offset
from app.schemas import AdapterUsed

router = APIRouter(prefix="/feedback", tags=["feedback"])
_CHAT_PREFIX = "chatcmpl-"


@router.post("", status_code=204)
async def give(body: FeedbackRequest, workspace: CurrentWorkspace) -> Response:
    """Say whether an answer was good, or what it should have been. Sent again, it replaces what was said."""
    try:
        await asyncio.to_thread(
            workspace.answers.rate, body.request_id.removeprefix(_CHAT_PREFIX), body.rating, body.correction
        )
    except UnknownAnswer as error:
        raise _unknown() from error
    return Response(status_code=204)


@router.get("")
async def feedback(
    workspace: CurrentWorkspace,
    limit: Limit = 100,
    offset: Offset = 0,
    rating: Literal["1", "-1"] | None = None,
    adapter: Annotated[str | None, Query(max_length=63, description="Only on answers of this adapter.")] = None,
) -> FeedbackPage:
    """The feedback given, newest first, each with the answer it is about."""
    found, total = await asyncio.to_thread(
        workspace.answers.page, limit, offset, int(rating) if rating else None, adapter
    )
    return FeedbackPage(total=total, offset=offset, limit=limit, feedback=[_response(each) for each in found])


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {"application/jsonl": {}}}})
def export(workspace: CurrentWorkspace) -> StreamingResponse:
    """All feedback as JSON Lines, oldest question first: one object as in `GET /feedback` a line."""

    def lines() -> Iterator[str]:
        for each in workspace.answers.export():
            yield _response(each).model_dump_json() + "\n"

    headers = {"Content-Disposition": 'attachment; filename="feedback.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)


@router.delete("/{request_id}", status_code=204)
async def forget(request_id: str, workspace: CurrentWorkspace) -> Response:
    """Erase an answer that was kept, with the feedback on it."""
    try:
        await asyncio.to_thread(workspace.answers.forget, request_id.removeprefix(_CHAT_PREFIX))
    except UnknownAnswer as error:
        raise _unknown() from error
    return Response(status_code=204)


def _unknown() -> Problem:
    return Problem(
        404,
        "not_found",
        "No answer with this request id is kept. Answers are kept for some time and up to some number; take the "
        "request_id of a recent one.",
    )


def _response(rated: RatedAnswer) -> FeedbackResponse:
    used = (
        AdapterUsed(name=rated.adapter, version=rated.version, sha256=rated.sha256)
        if rated.adapter is not None and rated.version is not None and rated.sha256 is not None
        else None
    )
    return FeedbackResponse.model_validate({**asdict(rated), "adapter": used})
