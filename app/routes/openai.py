"""OpenAI's chat API over the tenant's documents, and vLLM's adapter endpoints over the tenant's registry.

Knows OpenAI's shapes; answering itself is the walk that /ask takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError

from adapters import ABSTENTION, BASE, Engine, PromptTemplate, Selection
from app.answering import AnswerPiece, Retrieved, answer
from app.disconnects import unless_gone
from app.life.erasure import Choice
from app.life.promotion import promote
from app.openai_schemas import ChatRequest, LoadAdapterRequest, UnloadAdapterRequest
from app.problems import Problem, openai_error, problem_of
from app.reach import narrowed_request
from app.routes.dependencies import CurrentPrincipal, CurrentService, CurrentWorkspace, ReadyEngine
from app.routes.questions import Steps, counted, refuse_long, whole
from app.schemas import AskResponse
from app.templates import BUILTIN, StoredTemplate
from app.workspace import Workspace

router = APIRouter(prefix="/v1", tags=["openai"])
_SYSTEM_IGNORED = "The reader quotes spans and follows no instructions: the system message had no effect."


@router.get("/models")
async def models(workspace: CurrentWorkspace, engine: ReadyEngine) -> dict[str, Any]:
    """The base model, and the tenant's adapters as `name` (where a version is active) and `name@version`."""
    return {"object": "list", "data": _models(workspace, engine)}


@router.get("/models/{model:path}")
async def model(model: str, workspace: CurrentWorkspace, engine: ReadyEngine) -> dict[str, Any]:
    """One of the models."""
    for entry in _models(workspace, engine):
        if model in (entry["id"], BASE if entry["id"] == engine.name else None):
            return entry
    raise _unknown(model)


@router.post("/chat/completions", response_model=None, responses={200: {"content": {"text/event-stream": {}}}})
async def chat(
    body: ChatRequest,
    request: Request,
    principal: CurrentPrincipal,
    workspace: CurrentWorkspace,
    service: CurrentService,
    engine: ReadyEngine,
) -> Response:
    """Answer the last user message from the tenant's documents; earlier messages are its history.

    `lorebase` in the response holds what /ask would answer: citations, passages, confidence, adapter.
    """
    try:
        ask = narrowed_request(principal, body.ask())
    except ValidationError as error:
        reasons = "; ".join(f"messages: {e['loc'][0]}: {e['msg']}" for e in error.errors()[:3])
        raise Problem(422, "invalid_request", reasons) from error
    grounded = body.lorebase.retrieval
    for text in (ask.question, *(turn.question for turn in ask.history), body.system) if grounded else ():
        refuse_long("messages", text, service)  # without retrieval the model's context alone is the bound
    choice = await asyncio.to_thread(_choose, body.model, workspace, engine, body.user or request.state.request_id)
    selection = choice.selection
    template = await asyncio.to_thread(workspace.templates.select, ask.template)
    steps = answer(
        workspace, engine, selection, _with_system(template, body.system, grounded), ask, request.state.request_id,
        grounded=grounded, warnings=choice.warnings, turns=service.turns,
    )  # fmt: skip
    ignored = [_SYSTEM_IGNORED] if body.system and not engine.generates else []
    used = f"{selection.name}@{selection.version}" if selection else None
    headers = choice.headers
    steps = counted(steps, request, service, workspace, used or BASE)
    head = {
        "id": f"chatcmpl-{request.state.request_id}",
        "created": int(time.time()),
        "model": used or engine.name,
    }
    if not body.stream:
        done = await unless_gone(request, whole(steps))
        done.warnings += ignored
        return JSONResponse(_completion(head, done), headers=headers)
    # Errors before the first word are answered with their own status.
    first = await unless_gone(request, _first(steps))
    usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(
        _stream(head, first, steps, usage, ignored),
        media_type="text/event-stream",
        headers={**headers, "Cache-Control": "no-store"},
    )


@router.post("/load_lora_adapter")
async def load(body: LoadAdapterRequest, workspace: CurrentWorkspace, engine: ReadyEngine) -> dict[str, Any]:
    """Make a registered adapter resident. A bare name without an active version gets its latest one promoted.

    `lora_path` is never opened: adapters come into the registry by `POST /adapters/{name}/versions`.
    """
    registry = workspace.adapters
    if "@" not in body.lora_name and body.lora_name != BASE:
        adapter = registry.get(body.lora_name)
        if adapter.active is None:
            await asyncio.to_thread(promote, workspace, body.lora_name, max(adapter.versions))
    selection = _registered(body.lora_name, workspace)
    await asyncio.to_thread(engine.prepare, selection.ref)
    note = " lora_path was not opened: the registered version was used." if body.lora_path else ""
    return {
        "name": selection.name,
        "version": selection.version,
        "sha256": selection.ref.sha256,
        "message": f"Success: adapter {selection.name}@{selection.version} is resident.{note}",
    }


@router.post("/unload_lora_adapter")
async def unload(body: UnloadAdapterRequest, workspace: CurrentWorkspace, engine: ReadyEngine) -> dict[str, Any]:
    """Let go of an adapter's memory once no request uses it. It stays registered; a later request loads it again."""
    selection = _registered(body.lora_name, workspace)
    await asyncio.to_thread(engine.unload, selection.ref)
    return {
        "name": selection.name,
        "version": selection.version,
        "sha256": selection.ref.sha256,
        "message": f"Success: adapter {selection.name}@{selection.version} is no longer kept in memory.",
    }


def _models(workspace: Workspace, engine: Engine) -> list[dict[str, Any]]:
    found = [{"id": engine.name, "object": "model", "created": 0, "owned_by": "lorebase", "parent": None}]
    for name in workspace.adapters.names():
        adapter = workspace.adapters.get(name)
        ids = [(f"{name}@{v.version}", v.created_at) for v in adapter.versions.values()]
        if adapter.active is not None:
            ids.insert(0, (name, adapter.versions[adapter.active].created_at))
        found += [
            {"id": id_, "object": "model", "created": int(at), "owned_by": "lorebase", "parent": engine.name}
            for id_, at in ids
        ]
    return found


def _choose(model: str, workspace: Workspace, engine: Engine, key: str) -> Choice:
    name = model.partition("@")[0]
    if model in (engine.name, BASE) and name not in workspace.adapters.names():
        return Choice(None, ())
    if name not in workspace.adapters.names():
        raise _unknown(model)
    return workspace.erasures.choose(model, key)


def _unknown(model: str) -> Problem:
    return Problem(404, "model_not_found", f"There is no model {model[:80]!r}; GET /v1/models lists those there are.")


def _registered(name: str, workspace: Workspace) -> Selection:
    selection = workspace.erasures.choose(name).selection
    if selection is None:
        raise Problem(422, "invalid_adapter_name", "The base model is no adapter: it is always loaded.")
    return selection


def _with_system(template: StoredTemplate, system: str, grounded: bool) -> StoredTemplate:
    """The template with the conversation's system message after its own; without retrieval it stands alone."""
    if not grounded:
        own = template.template.system if template.name != BUILTIN else ""
        return replace(template, template=PromptTemplate(system="\n\n".join(t for t in (own, system) if t)))
    if not system:
        return template
    return replace(template, template=replace(template.template, system=f"{template.template.system}\n\n{system}"))


def _completion(head: dict[str, Any], done: AskResponse) -> dict[str, Any]:
    message = {"role": "assistant", "content": _content(done), "refusal": None}
    return {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish_reason}],
        "usage": _usage(done),
        "lorebase": done.model_dump(mode="json"),
    }


def _content(done: AskResponse) -> str:
    """The answer; an abstention is said in words, since a chat shows nothing else."""
    return ABSTENTION if done.abstained else done.answer


def _usage(done: AskResponse) -> dict[str, int]:
    used = done.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


async def _first(steps: Steps) -> AnswerPiece | AskResponse:
    """The first step that shows something."""
    try:
        async for step in steps:
            if not isinstance(step, Retrieved):
                return step
    except BaseException:
        await steps.aclose()
        raise
    raise RuntimeError("the engine ended without an answer")


async def _stream(
    head: dict[str, Any], first: AnswerPiece | AskResponse, steps: Steps, usage: bool, warnings: list[str]
) -> AsyncIterator[str]:
    def chunk(delta: dict[str, str], finish_reason: str | None = None, **fields: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data({**head, "object": "chat.completion.chunk", "choices": [choice], **fields})

    async def from_first() -> AsyncIterator[Retrieved | AnswerPiece | AskResponse]:
        yield first
        async for step in steps:
            yield step

    try:
        async with contextlib.aclosing(steps):
            yield chunk({"role": "assistant", "content": ""})
            async for step in from_first():
                if isinstance(step, AnswerPiece):
                    yield chunk({"content": step.text})
                elif isinstance(step, AskResponse):
                    step.warnings += warnings
                    if step.abstained:
                        yield chunk({"content": ABSTENTION})
                    yield chunk({}, step.finish_reason, lorebase=step.model_dump(mode="json"))
                    if usage:
                        yield _data({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(step)})
    except Exception as error:
        yield _data({"error": openai_error(problem_of(error))})
        return
    yield "data: [DONE]\n\n"


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
