"""The model server's HTTP API: vLLM's chat, models and adapter addresses over a `Backend`.

Knows vLLM's shapes; knows no tenants, no documents, and not where rows run. Errors are problems, which hold OpenAI's
``error`` too.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from adapters import AdapterRef, Done, Token
from app.disconnects import unless_gone
from app.model_server.backend import Backend, Began, Step
from app.model_server.catalogue import Catalogue, NameTaken, NoAdapterThere, NoSuchName
from app.model_server.key import KeyAndBody
from app.model_server.schemas import LoadLora, ModelChatRequest, UnloadLora
from app.problems import Problem, install_problem_handlers, openai_error, problem_of

Scores = Sequence[dict[str, Any]]
OWNER = "lorebase-model-server"
router = APIRouter()
_CATALOGUE_PROBLEMS = {
    NameTaken: (400, "adapter_loaded"),
    NoAdapterThere: (404, "no_adapter_there"),
    NoSuchName: (404, "model_not_found"),
}


def create_model_app(
    backend: Backend,
    catalogue: Catalogue,
    *,
    key: str | None = None,
    max_body_bytes: int = 32 * 1024**2,
    body_seconds: float = 30.0,
) -> FastAPI:
    """The application; stopping it closes the backend.

    Args:
        key: what every request but ``/health`` must carry; None: anyone who reaches the server may use it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await backend.close()

    app = FastAPI(title="Lorebase model server", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.backend, app.state.catalogue = backend, catalogue
    app.include_router(router)
    install_problem_handlers(app)
    app.add_middleware(KeyAndBody, key=key, max_body_bytes=max_body_bytes, body_seconds=body_seconds)
    return app


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue


Answers = Annotated[Backend, Depends(_backend)]
Names = Annotated[Catalogue, Depends(_catalogue)]


@router.get("/health")
async def health(backend: Answers) -> Response:
    """Whether rows can be answered now."""
    if (reason := backend.failure()) is not None:
        raise Problem(503, "model_unavailable", reason, {"Retry-After": "2"})
    return Response()


@router.get("/v1/models")
async def models(backend: Answers, names: Names) -> dict[str, Any]:
    """The base model, and the adapters that were loaded."""
    base = {
        "id": backend.model, "object": "model", "created": 0, "owned_by": OWNER, "root": backend.model, "parent": None,
        "max_model_len": backend.context,
    }  # fmt: skip
    loaded = [
        {
            "id": name, "object": "model", "created": each.created, "owned_by": OWNER, "root": str(each.ref.folder),
            "parent": backend.model, "max_model_len": backend.context,
        }
        for name, each in names.named.items()
    ]  # fmt: skip
    return {"object": "list", "data": [base, *loaded]}


@router.get("/replicas")
async def replicas(backend: Answers, names: Names) -> dict[str, Any]:
    """The copies of the model, and which adapters each has in memory."""
    known = {each.ref.key: name for name, each in names.named.items()}
    found = await backend.replicas()
    return {"replicas": [{**asdict(r), "resident": sorted(known.get(k, k[:40]) for k in r.resident)} for r in found]}


@router.post("/v1/load_lora_adapter")
async def load(body: LoadLora, backend: Answers, names: Names) -> Response:
    """Let a name mean the adapter in a folder, once it has proven to fit the model."""
    if body.lora_name == backend.model:
        raise Problem(400, "adapter_loaded", f"{body.lora_name!r} is the base model's name; choose another.")
    try:
        ref = await names.read(body.lora_name, body.lora_path)
        await backend.prepare(ref)
        names.add(ref)
    except (NameTaken, NoAdapterThere) as error:
        raise _problem(error) from error
    return PlainTextResponse(f"Success: LoRA adapter '{ref.name}' added successfully.")


@router.post("/v1/unload_lora_adapter")
async def unload(body: UnloadLora, backend: Answers, names: Names) -> Response:
    """Forget a name, and let go of its adapter's memory once no row uses it."""
    try:
        ref = names.remove(body.lora_name)
    except NoSuchName as error:
        raise _problem(error) from error
    await backend.unload(ref)
    return PlainTextResponse(f"Success: LoRA adapter '{ref.name}' removed successfully.")


@router.post("/v1/chat/completions")
async def chat(body: ModelChatRequest, request: Request, backend: Answers, names: Names) -> Response:
    """What the model writes after the messages."""
    steps = backend.answer(body.row(_adapter(body.model, backend, names)))
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
    if not body.stream:
        return JSONResponse(await unless_gone(request, _completion(head, steps, body.logprobs)))
    first = await unless_gone(request, _first(steps))  # errors before the first word have a status of their own
    usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(
        _stream(head, first, steps, logprobs=body.logprobs, usage=usage),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


def _adapter(model: str, backend: Backend, names: Catalogue) -> AdapterRef | None:
    if model == backend.model:
        return None
    try:
        return names.find(model)
    except NoSuchName as error:
        raise _problem(error) from error


def _problem(error: NameTaken | NoAdapterThere | NoSuchName) -> Problem:
    status, code = _CATALOGUE_PROBLEMS[type(error)]
    return Problem(status, code, str(error))


async def _completion(head: dict[str, Any], steps: AsyncGenerator[Step], logprobs: bool) -> dict[str, Any]:
    replica, scores = "", list[dict[str, Any]]()
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, Began):
                replica = step.replica
            elif isinstance(step, Token):
                scores += _scores(step)
            elif isinstance(step, Done):
                choice = {
                    "index": 0, "message": {"role": "assistant", "content": step.answer},
                    "logprobs": {"content": scores} if logprobs else None, "finish_reason": step.finish_reason,
                }  # fmt: skip
                rest = {"choices": [choice], "usage": _usage(step), "system_fingerprint": replica}
                return {**head, "object": "chat.completion", **rest}
    raise RuntimeError("the backend ended without an answer")


async def _first(steps: AsyncGenerator[Step]) -> tuple[str, Token | Done]:
    """The replica, and the first step that shows something."""
    replica = ""
    try:
        async for step in steps:
            if isinstance(step, Began):
                replica = step.replica
            elif isinstance(step, Token | Done):
                return replica, step
    except BaseException:
        await steps.aclose()
        raise
    raise RuntimeError("the backend ended without an answer")


async def _stream(
    head: dict[str, Any], begun: tuple[str, Token | Done], steps: AsyncGenerator[Step], *, logprobs: bool, usage: bool
) -> AsyncIterator[str]:
    replica, first = begun
    head = {**head, "object": "chat.completion.chunk", "system_fingerprint": replica}

    def chunk(delta: dict[str, str], finish_reason: str | None = None, scores: Scores = ()) -> str:
        told = {"content": scores} if scores and logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": told, "finish_reason": finish_reason}
        return _data({**head, "choices": [choice]})

    async def all_steps() -> AsyncIterator[Step]:
        yield first
        async for step in steps:
            yield step

    try:
        async with aclosing(steps):
            yield chunk({"role": "assistant", "content": ""})
            async for step in all_steps():
                if isinstance(step, Token):
                    yield chunk({"content": step.text}, scores=_scores(step))
                elif isinstance(step, Done):
                    yield chunk({}, step.finish_reason)
                    if usage:
                        yield _data({**head, "choices": [], "usage": _usage(step)})
    except Exception as error:
        yield _data({"error": openai_error(problem_of(error))})
        return
    yield "data: [DONE]\n\n"


def _scores(token: Token) -> Scores:
    """An entry for each of the model's tokens; their text stands with the last of them."""
    entries = [{"token": "", "logprob": score, "bytes": [], "top_logprobs": []} for score in token.log_probabilities]
    if entries:
        entries[-1] |= {"token": token.text, "bytes": list(token.text.encode())}
    return entries


def _usage(done: Done) -> dict[str, int]:
    prompt, completion = done.prompt_tokens, done.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
