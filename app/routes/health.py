"""Probes: is the process alive, can it answer."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.routes.dependencies import CurrentService

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(service: CurrentService, response: Response) -> dict[str, object]:
    """Questions can be answered: 200, or 503 with the reason."""
    ready, reason = service.readiness()
    response.status_code = 200 if ready else 503
    return {"ready": ready, "reason": reason, "model": service.engine.name}
