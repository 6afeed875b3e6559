"""The FastAPI application, made from settings by a factory. Nothing lives at module level."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.access import Access
from app.keys import Principal
from app.places import Places
from app.problems import PROBLEM_RESPONSE, PROBLEM_SCHEMA, install_problem_handlers
from app.replay import Idempotency
from app.response_headers import ResponseHeaders
from app.routes import (
    adapters,
    audit,
    backup,
    datasets,
    documents,
    evaluations,
    feedback,
    files,
    fine_tuning,
    health,
    jobs,
    keys,
    openai,
    page,
    pages,
    policy,
    questions,
    splitting,
    templates,
    tenants,
    training,
    usage,
)
from app.schemas import IngestRequest
from app.scopes import Rulebook
from app.service import Service

VERSION = "0.1.0"
# What pages of other origins may send and read, beside what every browser lets them.
_SENT_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "X-Adapter", "X-Request-ID", "X-Session-Id"]
_ANSWERED_HEADERS = [
    "Idempotency-Replayed",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Adapter-Used",
    "X-Request-Id",
]
ROUTERS = tuple(
    module.router
    for module in (
        page,
        health,
        documents,
        pages,
        jobs,
        questions,
        splitting,
        adapters,
        datasets,
        feedback,
        policy,
        training,
        evaluations,
        templates,
        openai,
        files,
        fine_tuning,
        tenants,
        keys,
        usage,
        audit,
        backup,
    )
)
"""In the order in which they are asked for a path."""


def create_app(service: Service, guests: Mapping[str, Principal] = MappingProxyType({})) -> FastAPI:
    """The HTTP face of a service; starting the application starts the service, stopping it stops it.

    Args:
        guests: keys that are taken as long as this application runs, and stored nowhere.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)  # cancelled requests answer meanwhile

    async def principal(key: str) -> Principal | None:
        if key in guests:
            return guests[key]
        if service.storage.is_remote:
            return await asyncio.to_thread(service.directory.keys.principal, key)
        return service.directory.keys.principal(key)

    app = _routed(lifespan)
    app.state.service = service
    install_problem_handlers(app)
    settings = service.settings
    # Inside of what is added after it.
    app.add_middleware(Idempotency, open_store=service.idempotency, is_live=service.storage.replicas.is_live)
    app.add_middleware(
        Access,
        principal=principal,
        rules=Rulebook(ROUTERS),
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        metrics=service.metrics,
        metrics_key=settings.metrics_key.get_secret_value() if settings.metrics_key else None,
        allowances=service.allowances,
        questions=Places(settings.max_waiting, "questions"),
        used=service.directory.keys.note_use,
        tell=service.tell,
        draining=service.draining,
        slow_seconds=settings.slow_request_seconds,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_SENT_HEADERS,
            expose_headers=_ANSWERED_HEADERS,
        )
    app.add_middleware(ResponseHeaders, tls=settings.tls_certificate is not None)
    return app


def openapi_document() -> dict[str, Any]:
    """What `/openapi.json` answers, without a service."""
    return _routed(None).openapi()


def _routed(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None) -> FastAPI:
    """The application with its routes and their description."""
    app = FastAPI(
        title="Lorebase",
        version=VERSION,
        summary="Answers from each tenant's own documents, in each tenant's own adapter.",
        lifespan=lifespan,
        docs_url=None,  # app/routes/page.py has its own, whose files come from here
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    describe = app.openapi
    app.openapi = lambda: _complete(describe())  # type: ignore[method-assign]
    return app


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add to the OpenAPI document what no route's signature says: the key, the JSON body of `POST /ingest`, and that
    every error is a problem."""
    body = IngestRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = body.pop("$defs", {})
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {}).update({**definitions, IngestRequest.__name__: body})
    for unused in (
        "HTTPValidationError",
        "ValidationError",
    ):  # what FastAPI answers by itself, and this service does not
        components["schemas"].pop(unused, None)
    components["schemas"]["Problem"] = PROBLEM_SCHEMA
    for methods in schema["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = PROBLEM_RESPONSE
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"key": []}]
    return schema
