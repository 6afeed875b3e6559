"""The tenant's policy: what is kept, and what may serve."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter

from app.feedback_schemas import PolicyRequest, PolicyResponse
from app.routes.dependencies import CurrentWorkspace

router = APIRouter(prefix="/policy", tags=["policy"])


@router.get("")
async def policy(workspace: CurrentWorkspace) -> PolicyResponse:
    """What the tenant has decided."""
    return PolicyResponse(**asdict(workspace.policy.current))


@router.put("")
async def change(body: PolicyRequest, workspace: CurrentWorkspace) -> PolicyResponse:
    """Change decisions; what is not given stays as it is."""
    decisions = body.model_dump(exclude_none=True)
    changed = await asyncio.to_thread(workspace.policy.change, **decisions)
    await asyncio.to_thread(workspace.erasures.settle)
    return PolicyResponse(**asdict(changed))
