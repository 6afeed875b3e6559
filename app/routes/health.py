"""Probes and metrics: is the process alive, can it answer, what has it done."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from app.metrics import TEXT_FORMAT
from app.routes.dependencies import CurrentService

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Not yet, or no more; `reason` says why."}})
async def readyz(service: CurrentService, response: Response) -> dict[str, object]:
    """Questions can be answered: 200, or 503 with the reason. `storage` says what keeps the documents."""
    ready, reason = service.readiness()
    storage = service.storage
    if storage.is_remote and ready and (failure := await asyncio.to_thread(storage.failure)) is not None:
        ready, reason = False, failure
    response.status_code = 200 if ready else 503
    return {"ready": ready, "reason": reason, "model": service.engine.name, "storage": storage.kind}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: CurrentService) -> Response:
    """Counters and gauges for Prometheus. Needs the admin key or `LOREBASE_METRICS_KEY`."""
    text = await asyncio.to_thread(service.metrics.text)
    return Response(text, headers={"Content-Type": TEXT_FORMAT})
