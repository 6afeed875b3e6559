"""How a tenant's documents are split when they bring nothing of their own."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from app.routes.dependencies import CurrentService, CurrentWorkspace
from app.schemas import SplitRequest, SplittingResponse
from app.workspace import Workspace
from ingest import METHODS, SplitConfig

router = APIRouter(tags=["splitting"])


@router.get("/splitting")
async def splitting(workspace: CurrentWorkspace, service: CurrentService) -> SplittingResponse:
    """The tenant's default, and the methods that this service can use."""
    return _response(await asyncio.to_thread(workspace.corpus.default_split), service.generates)


@router.put("/splitting")
async def set_splitting(body: SplitRequest, workspace: CurrentWorkspace, service: CurrentService) -> SplittingResponse:
    """Set the tenant's default. It holds for documents sent from now on; those there stay as they are."""
    return _response(await asyncio.to_thread(_set, workspace, body), service.generates)


def _set(workspace: Workspace, body: SplitRequest) -> SplitConfig:
    chosen = body.config(workspace.corpus.default_split())
    workspace.corpus.set_default_split(chosen)
    return chosen


def _response(split: SplitConfig, generates: bool) -> SplittingResponse:
    methods = [method for method in METHODS if generates or method != "agentic"]
    return SplittingResponse(method=split.method, size=split.size, overlap=split.overlap, available=methods)
