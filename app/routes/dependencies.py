"""What routes ask for by type: the service, the caller's workspace, the engine once it is ready.

Functions that are not `async` are called in a thread: only those that may wait for a disk are such.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import HTTPConnection

from adapters import Engine
from app.keys import Principal
from app.problems import Problem, not_found
from app.reach import reaches
from app.service import Service
from app.tasks import TASK_KINDS
from app.workspace import Workspace


async def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


CurrentService = Annotated[Service, Depends(_service)]


async def _principal(connection: HTTPConnection) -> Principal:
    principal: Principal = connection.state.principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_principal)]


async def _managed_tenant(tenant_id: str, principal: CurrentPrincipal, service: CurrentService) -> str:
    own = principal.tenant_id in (None, tenant_id)
    if not own or await asyncio.to_thread(service.directory.tenant, tenant_id) is None:
        raise not_found("tenant")
    return tenant_id


ManagedTenant = Annotated[str, Depends(_managed_tenant)]
"""The path's tenant: any for the service's admin, their own for others; else the 404 of an unknown one."""


def _workspace(principal: CurrentPrincipal, service: CurrentService) -> Workspace:
    workspace = service.workspaces.get(principal.tenant_id) if principal.tenant_id is not None else None
    if workspace is None:
        raise Problem(401, "unauthorized", "This key's tenant is gone.", {"WWW-Authenticate": "Bearer"})
    workspace.usage.add(requests=1)
    return workspace


CurrentWorkspace = Annotated[Workspace, Depends(_workspace)]


async def _document_id(document_id: str, principal: CurrentPrincipal, workspace: CurrentWorkspace) -> str:
    if principal.collections is not None:
        found = await asyncio.to_thread(workspace.corpus.document, document_id)
        if not reaches(principal, found.collection):
            raise not_found("document")
    return document_id


DocumentId = Annotated[str, Depends(_document_id)]
"""The path's document; one that the key does not reach is as one that is not there."""


async def _job_id(job_id: str, principal: CurrentPrincipal, workspace: CurrentWorkspace) -> str:
    if principal.collections is not None and not await asyncio.to_thread(_reaches_job, principal, workspace, job_id):
        raise not_found("job")
    return job_id


def _reaches_job(principal: Principal, workspace: Workspace, job_id: str) -> bool:
    """Whether a job is of documents, none of which lies in a collection the key does not reach."""
    job = workspace.jobs.get(job_id)
    if job is None or job.kind in TASK_KINDS:
        return False
    return workspace.corpus.collections(workspace.jobs.documents(job_id)) <= (principal.collections or frozenset())


JobId = Annotated[str, Depends(_job_id)]
"""The path's job; one that the key does not reach is as one that is not there."""


async def _ready_engine(service: CurrentService) -> Engine:
    ready, reason = service.readiness()
    if not ready:
        raise Problem(503, "not_ready", f"{reason} Try again in a moment.", {"Retry-After": "2"})
    return service.engine


async def _ready_search(service: CurrentService) -> None:
    ready, reason = service.search_readiness()
    if not ready:
        raise Problem(503, "not_ready", f"{reason} Try again in a moment.", {"Retry-After": "2"})


ReadySearch = Annotated[None, Depends(_ready_search)]
ReadyEngine = Annotated[Engine, Depends(_ready_engine)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items on a page.")]
Offset = Annotated[int, Query(ge=0, le=10**9, description="Items to skip.")]
