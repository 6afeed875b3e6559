"""What routes ask for by type: the service, the caller's workspace, the engine once it is ready."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import HTTPConnection

from adapters import Engine
from app.problems import Problem
from app.service import Service
from app.workspace import Workspace


def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


CurrentService = Annotated[Service, Depends(_service)]


def _workspace(connection: HTTPConnection, service: CurrentService) -> Workspace:
    workspace = service.workspaces.get(connection.state.principal.tenant_id)
    if workspace is None:
        raise Problem(401, "unauthorized", "This key's tenant is gone.", {"WWW-Authenticate": "Bearer"})
    return workspace


CurrentWorkspace = Annotated[Workspace, Depends(_workspace)]


def _ready_engine(service: CurrentService) -> Engine:
    ready, reason = service.readiness()
    if not ready:
        raise Problem(503, "not_ready", f"{reason} Try again in a moment.", {"Retry-After": "2"})
    return service.engine


def _ready_search(service: CurrentService) -> None:
    ready, reason = service.search_readiness()
    if not ready:
        raise Problem(503, "not_ready", f"{reason} Try again in a moment.", {"Retry-After": "2"})


ReadySearch = Annotated[None, Depends(_ready_search)]
ReadyEngine = Annotated[Engine, Depends(_ready_engine)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items on a page.")]
Offset = Annotated[int, Query(ge=0, le=10**9, description="Items to skip.")]
