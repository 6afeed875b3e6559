"""Tenants and their keys, for the admin."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService
from app.schemas import KeyCreated, TenantCreated, TenantList, TenantRequest, TenantResponse
from app.tenants import TenantExists

router = APIRouter(prefix="/tenants", tags=["tenants"])


@router.post("", status_code=201)
async def create(body: TenantRequest, service: CurrentService) -> TenantCreated:
    """Make a tenant; its key is shown this once."""
    try:
        tenant, key = await asyncio.to_thread(service.directory.create, body.name)
    except TenantExists as error:
        raise Problem(409, "tenant_exists", str(error)) from error
    return TenantCreated(id=tenant.id, name=tenant.name, created_at=tenant.created_at, api_key=key)


@router.get("")
async def tenants(service: CurrentService) -> TenantList:
    """All tenants, oldest first."""
    found = await asyncio.to_thread(service.directory.tenants)
    return TenantList(tenants=[TenantResponse(id=t.id, name=t.name, created_at=t.created_at) for t in found])


@router.delete("/{tenant_id}", status_code=204)
async def remove(tenant_id: str, service: CurrentService) -> Response:
    """Erase a tenant: its keys, documents, adapters and jobs."""
    if not await asyncio.to_thread(service.remove_tenant, tenant_id):
        raise not_found("tenant")
    return Response(status_code=204)


@router.post("/{tenant_id}/keys", status_code=201)
async def add_key(tenant_id: str, service: CurrentService) -> KeyCreated:
    """Make a further key for a tenant; it is shown this once."""
    if await asyncio.to_thread(service.directory.tenant, tenant_id) is None:
        raise not_found("tenant")
    key_id, key = await asyncio.to_thread(service.directory.add_key, tenant_id)
    return KeyCreated(id=key_id, api_key=key)


@router.delete("/{tenant_id}/keys/{key_id}", status_code=204)
async def remove_key(tenant_id: str, key_id: str, service: CurrentService) -> Response:
    """Revoke a key at once."""
    if not await asyncio.to_thread(service.directory.remove_key, tenant_id, key_id):
        raise not_found("key")
    return Response(status_code=204)
