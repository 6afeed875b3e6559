"""What a tenant has and has used, beside what it may: for itself, and for the service's admin."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from app.problems import not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, ManagedTenant
from app.usage import DayUsage
from app.usage_schemas import DayUsageResponse, Holdings, LimitsResponse, UsageResponse
from app.workspace import Workspace

router = APIRouter(tags=["usage"])
Days = Annotated[int, Query(ge=1, le=366, description="Days of the past to list.")]


@router.get("/usage")
async def own(workspace: CurrentWorkspace, days: Days = 31) -> UsageResponse:
    """What the tenant has and has used, and its limits."""
    return await asyncio.to_thread(_usage, workspace, days)


@router.get("/tenants/{tenant_id}/usage")
async def of_tenant(tenant_id: ManagedTenant, service: CurrentService, days: Days = 31) -> UsageResponse:
    """The same of any tenant, for the service's admin."""
    workspace = await asyncio.to_thread(service.workspaces.get, tenant_id)
    if workspace is None:
        raise not_found("tenant")
    return await asyncio.to_thread(_usage, workspace, days)


def _usage(workspace: Workspace, days: int) -> UsageResponse:
    counts, limits = workspace.corpus.counts(), workspace.limits()
    return UsageResponse(
        holds=Holdings(
            documents=counts.documents,
            bytes=counts.bytes,
            chunks=counts.chunks,
            adapter_versions=workspace.adapters.count(),
        ),
        today=_day(workspace.usage.today()),
        limits=LimitsResponse(**asdict(limits)),
        days=[_day(each) for each in workspace.usage.days(days)],
    )


def _day(used: DayUsage) -> DayUsageResponse:
    return DayUsageResponse(
        day=used.day,
        requests=used.requests,
        questions=used.questions,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        tokens=used.tokens,
        training_minutes=round(used.training_seconds / 60, 3),
    )
