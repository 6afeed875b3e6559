"""Keys: a tenant's, for the admin or the tenant's own admin; the admin's own; and what one's own key opens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Response

from app.audit import note
from app.key_schemas import (
    AdminKeyRequest,
    KeyCreated,
    KeyList,
    KeyRequest,
    KeyResponse,
    KeyRotated,
    OwnKey,
    RotateRequest,
)
from app.keys import KeyFromEnvironment, KeyRecord, KeyTerms, UnknownKey
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentPrincipal, CurrentService, ManagedTenant
from app.service import Service

router = APIRouter(tags=["keys"])
T = TypeVar("T")


@router.get("/key")
async def own(principal: CurrentPrincipal) -> OwnKey:
    """What the key that asks opens."""
    return OwnKey(
        key_id=principal.key_id,
        tenant_id=principal.tenant_id,
        scopes=sorted(principal.scopes),
        collections=None if principal.collections is None else sorted(principal.collections),
    )


@router.get("/tenants/{tenant_id}/keys")
async def tenant_keys(tenant_id: ManagedTenant, service: CurrentService) -> KeyList:
    """A tenant's keys, oldest first; revoked ones too."""
    return await _list(service, tenant_id)


@router.post("/tenants/{tenant_id}/keys", status_code=201)
async def add_tenant_key(
    tenant_id: ManagedTenant, service: CurrentService, body: KeyRequest | None = None
) -> KeyCreated:
    """Make a further key for a tenant; it is shown this once. Without a body it opens all that is the tenant's."""
    return await _add(service, tenant_id, (body or KeyRequest()).terms())


@router.post("/tenants/{tenant_id}/keys/{key_id}/rotate", status_code=201)
async def rotate_tenant_key(
    tenant_id: ManagedTenant, key_id: str, service: CurrentService, body: RotateRequest | None = None
) -> KeyRotated:
    """Make a key that opens the same; the old one goes on for the overlap, so that clients can change over."""
    return await _rotate(service, tenant_id, key_id, body or RotateRequest())


@router.delete("/tenants/{tenant_id}/keys/{key_id}", status_code=204)
async def revoke_tenant_key(tenant_id: ManagedTenant, key_id: str, service: CurrentService) -> Response:
    """Revoke a key at once."""
    await _known(asyncio.to_thread(service.directory.keys.revoke, tenant_id, key_id))
    return Response(status_code=204)


@router.get("/keys")
async def admin_keys(service: CurrentService) -> KeyList:
    """The keys of the service's admin."""
    return await _list(service, None)


@router.post("/keys", status_code=201)
async def add_admin_key(service: CurrentService, body: AdminKeyRequest | None = None) -> KeyCreated:
    """Make a further key for the service's admin; it is shown this once."""
    return await _add(service, None, (body or AdminKeyRequest()).terms())


@router.post("/keys/{key_id}/rotate", status_code=201)
async def rotate_admin_key(key_id: str, service: CurrentService, body: RotateRequest | None = None) -> KeyRotated:
    """Make a key for the service's admin in the place of one that goes on for the overlap."""
    return await _rotate(service, None, key_id, body or RotateRequest())


@router.delete("/keys/{key_id}", status_code=204)
async def revoke_admin_key(key_id: str, principal: CurrentPrincipal, service: CurrentService) -> Response:
    """Revoke a key of the service's admin; not the one that asks, so that one is always left."""
    if key_id == principal.key_id:
        raise Problem(409, "key_in_use", "A key of the admin cannot revoke itself; use another one, or rotate it.")
    await _known(asyncio.to_thread(service.directory.keys.revoke, None, key_id))
    return Response(status_code=204)


async def _list(service: Service, owner: str | None) -> KeyList:
    found = await asyncio.to_thread(service.directory.keys.of, owner)
    return KeyList(keys=[_response(record, owner) for record in found])


async def _add(service: Service, owner: str | None, terms: KeyTerms) -> KeyCreated:
    key_id, key = await asyncio.to_thread(service.directory.keys.add, owner, terms)
    note(made_key_id=key_id)
    return KeyCreated(id=key_id, api_key=key)


async def _rotate(service: Service, owner: str | None, key_id: str, body: RotateRequest) -> KeyRotated:
    rotate: Callable[..., tuple[str, str, float]] = service.directory.keys.rotate
    new_id, key, ends = await _known(asyncio.to_thread(rotate, owner, key_id, body.overlap_seconds))
    note(made_key_id=new_id)
    return KeyRotated.model_validate({"id": new_id, "api_key": key, "replaces": key_id, "old_expires_at": ends})


async def _known(work: Awaitable[T]) -> T:
    try:
        return await work
    except UnknownKey as error:
        raise not_found("key") from error
    except KeyFromEnvironment as error:
        raise Problem(
            409,
            "key_from_environment",
            "This key is set by LOREBASE_ADMIN_KEY or LOREBASE_DEFAULT_KEY; set another there and start again, or make "
            "a further key and revoke this one.",
        ) from error


def _response(record: KeyRecord, owner: str | None) -> KeyResponse:
    terms = record.terms
    return KeyResponse.model_validate(
        {
            "id": record.id,
            "name": terms.name,
            "scopes": ["operator"] if owner is None else list(terms.scopes),
            "collections": terms.collections and list(terms.collections),
            "created_at": record.created_at,
            "expires_at": terms.expires_at,
            "revoked_at": record.revoked_at,
            "last_used_at": record.last_used_at,
            "environment": record.from_environment,
        }
    )
