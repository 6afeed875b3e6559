"""The audit log: for the tenant's own admin, and for the service's."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter

from app.audit import AuditLog
from app.audit_schemas import AuditEntryResponse, AuditPage, AuditVerification
from app.problems import not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, Limit, ManagedTenant, Offset

router = APIRouter(tags=["audit"])


@router.get("/audit")
async def entries(workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0) -> AuditPage:
    """What was changed, by which key, newest first; and the uses of keys that were refused."""
    return await asyncio.to_thread(_page, workspace.audit, limit, offset)


@router.get("/audit/verification")
async def verification(workspace: CurrentWorkspace) -> AuditVerification:
    """Compute the hashes of all entries anew."""
    verdict = await asyncio.to_thread(workspace.audit.verify)
    return AuditVerification(valid=verdict.broken_at is None, **asdict(verdict))


@router.get("/tenants/{tenant_id}/audit")
async def of_tenant(
    tenant_id: ManagedTenant, service: CurrentService, limit: Limit = 100, offset: Offset = 0
) -> AuditPage:
    """The same of any tenant, for the service's admin."""
    workspace = await asyncio.to_thread(service.workspaces.get, tenant_id)
    if workspace is None:
        raise not_found("tenant")
    return await asyncio.to_thread(_page, workspace.audit, limit, offset)


def _page(log: AuditLog, limit: int, offset: int) -> AuditPage:
    found, total = log.page(limit, offset)
    shown = [AuditEntryResponse.model_validate(asdict(entry)) for entry in found]
    return AuditPage(total=total, offset=offset, limit=limit, entries=shown)
