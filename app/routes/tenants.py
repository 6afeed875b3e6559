"""Tenants, for the admin."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Response

from app.audit import note_tenant
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService, ManagedTenant
from app.schemas import TenantCreated, TenantList, TenantRequest, TenantResponse
from app.service import Service
from app.tenants import TenantExists
from app.usage_schemas import LimitsResponse, TenantChanges, TenantDetails

router = APIRouter(prefix="/tenants", tags=["tenants"])


@router.post("", status_code=201)
async def create(body: TenantRequest, service: CurrentService) -> TenantCreated:
    """Make a tenant; its key is shown this once."""
    try:
        tenant, key = await asyncio.to_thread(service.directory.create, body.name)
    except TenantExists as error:
        raise Problem(409, "tenant_exists", str(error)) from error
    note_tenant(tenant.id)
    return TenantCreated(id=tenant.id, name=tenant.name, created_at=tenant.created_at, api_key=key)


@router.get("")
async def tenants(service: CurrentService) -> TenantList:
    """All tenants, oldest first."""
    found = await asyncio.to_thread(service.directory.tenants)
    return TenantList(tenants=[TenantResponse(id=t.id, name=t.name, created_at=t.created_at) for t in found])


@router.get("/{tenant_id}")
async def tenant(tenant_id: ManagedTenant, service: CurrentService) -> TenantDetails:
    """One tenant with its limits."""
    return await asyncio.to_thread(_details, service, tenant_id)


@router.patch("/{tenant_id}")
async def change(tenant_id: ManagedTenant, body: TenantChanges, service: CurrentService) -> TenantDetails:
    """Set limits of one tenant, in the place of the service's defaults, from now on."""
    await asyncio.to_thread(service.directory.limits.change, tenant_id, body.limits.changes())
    return await asyncio.to_thread(_details, service, tenant_id)


@router.delete("/{tenant_id}", status_code=204)
async def remove(tenant_id: str, service: CurrentService) -> Response:
    """Erase a tenant: its keys, documents, adapters and jobs."""
    if not await asyncio.to_thread(service.remove_tenant, tenant_id):
        raise not_found("tenant")
    return Response(status_code=204)


def _details(service: Service, tenant_id: str) -> TenantDetails:
    found = service.directory.tenant(tenant_id)
    if found is None:
        raise not_found("tenant")
    limits = service.directory.limits
    return TenantDetails(
        id=found.id,
        name=found.name,
        created_at=found.created_at,
        limits=LimitsResponse(**asdict(limits.of(tenant_id))),
        overrides={str(quota): value for quota, value in limits.overrides(tenant_id).items()},
    )
