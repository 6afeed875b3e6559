"""A tenant's adapters: upload versions, look, promote, roll back, choose the default."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, File, Response, UploadFile

from adapters import BASE, Adapter, AdapterMemory
from adapters.errors import AdapterError
from app.adapter_schemas import (
    ActiveVersion,
    AdapterEventResponse,
    AdapterList,
    AdapterResponse,
    AdapterVersionResponse,
    CanaryRequest,
    DefaultAdapter,
    DefaultAdapterRequest,
    ErasedDocument,
    GateResponse,
    LineageResponse,
    PinnedVersion,
    PinRequest,
    PromoteRequest,
    ShadowComparison,
    TrialArm,
    TrialResponse,
    UploadedVersion,
)
from app.evaluation_schemas import GateAdvice
from app.life import promotion
from app.life.advice import with_routes
from app.life.gates import GateResult
from app.life.interchange import lineage_of_upload, pack, unpack
from app.life.trials import ArmCounts
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, ReadyEngine
from app.workspace import Workspace

router = APIRouter(prefix="/adapters", tags=["adapters"])
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


@router.get("")
async def adapters(workspace: CurrentWorkspace, service: CurrentService) -> AdapterList:
    """The tenant's adapters and its default."""
    registry, memory = workspace.adapters, service.engine.adapter_memory()
    found = [registry.get(name) for name in registry.names()]
    shown = await asyncio.to_thread(lambda: [_response(each, workspace, memory) for each in found])
    return AdapterList(default=registry.default or BASE, adapters=shown)


@router.put("/default")
async def set_default(body: DefaultAdapterRequest, workspace: CurrentWorkspace) -> DefaultAdapter:
    """Choose the adapter for requests without X-Adapter; `base` is none."""
    await asyncio.to_thread(workspace.adapters.set_default, body.name)
    return DefaultAdapter(name=workspace.adapters.default or BASE)


@router.get("/{name}")
async def adapter(name: str, workspace: CurrentWorkspace, service: CurrentService) -> AdapterResponse:
    """One adapter with its versions."""
    found = workspace.adapters.get(name)
    memory = service.engine.adapter_memory()
    return await asyncio.to_thread(_response, found, workspace, memory)


@router.delete("/{name}", status_code=204)
async def remove(name: str, workspace: CurrentWorkspace, service: CurrentService) -> Response:
    """Delete an adapter with all its versions. Requests that run on it finish."""
    for ref in await asyncio.to_thread(workspace.adapters.remove, name):
        service.engine.unload(ref)
    return Response(status_code=204)


@router.post("/{name}/versions", status_code=201)
async def upload(
    name: str,
    files: Annotated[list[UploadFile], File(description=f"`{CONFIG_FILE}` and `{WEIGHTS_FILE}`.")],
    workspace: CurrentWorkspace,
    engine: ReadyEngine,
) -> UploadedVersion:
    """Register a new version from the two files peft writes, or a zip archive of them. It serves once promoted."""
    contents = {file.filename: await file.read() for file in files}
    record: bytes | None = None
    if len(files) == 1 and (files[0].filename or "").lower().endswith(".zip"):
        config, weights, record = await asyncio.to_thread(unpack, contents[files[0].filename])
        contents = {CONFIG_FILE: config, WEIGHTS_FILE: weights}
    if set(contents) != {CONFIG_FILE, WEIGHTS_FILE} or len(files) > 2:
        raise Problem(
            422, "invalid_adapter",
            f"Send the field 'files' twice, named {CONFIG_FILE} and {WEIGHTS_FILE}, or once as a .zip of them.",
            reason="format",
        )  # fmt: skip
    lineage = lineage_of_upload(contents[CONFIG_FILE], record)
    version = await asyncio.to_thread(
        workspace.adapters.add,
        name,
        contents[CONFIG_FILE],
        contents[WEIGHTS_FILE],
        engine.check,
        lineage,
        most=workspace.limits().adapter_versions,
    )
    return UploadedVersion(name=name, version=version.version, sha256=version.sha256)


@router.get(
    "/{name}/versions/{version}/export", response_class=Response, responses={200: {"content": {"application/zip": {}}}}
)
async def export(name: str, version: int, workspace: CurrentWorkspace) -> Response:
    """A version as a zip archive in peft's format, with its lineage."""
    selection = workspace.adapters.select(f"{name}@{version}")
    if selection is None:
        raise not_found("adapter")
    found = workspace.adapters.get(name).versions[selection.version]
    packed = await asyncio.to_thread(pack, found, selection.ref)
    headers = {"Content-Disposition": f'attachment; filename="{name}-{selection.version}.zip"'}
    return Response(packed, media_type="application/zip", headers=headers)


@router.delete("/{name}/versions/{version}", status_code=204)
async def remove_version(name: str, version: int, workspace: CurrentWorkspace, service: CurrentService) -> Response:
    """Delete a version that is neither active nor on trial. Its number is not given again."""
    service.engine.unload(await asyncio.to_thread(workspace.adapters.remove_version, name, version))
    return Response(status_code=204)


@router.post("/{name}/promote")
async def promote(name: str, body: PromoteRequest, workspace: CurrentWorkspace) -> ActiveVersion:
    """Make a version the active one, from the next request on."""
    version = await asyncio.to_thread(promotion.promote, workspace, name, body.version)
    return ActiveVersion(name=name, version=version.version, sha256=version.sha256)


@router.post("/{name}/rollback")
async def rollback(name: str, workspace: CurrentWorkspace) -> ActiveVersion:
    """Make the version active that was so before."""
    version = await asyncio.to_thread(workspace.adapters.rollback, name)
    return ActiveVersion(name=name, version=version.version, sha256=version.sha256)


@router.post("/{name}/pin")
async def pin(
    name: str, workspace: CurrentWorkspace, engine: ReadyEngine, body: PinRequest | None = None
) -> PinnedVersion:
    """Keep a version in memory, also after a restart, so that no question waits for the disk; or no longer. A pin
    belongs to its version: promoting another does not move it."""
    body = body or PinRequest()
    registry = workspace.adapters
    version = await asyncio.to_thread(registry.pin, name, body.version, pinned=body.pinned)
    if not body.pinned:
        engine.unpin(registry.ref(name, version))
    else:
        try:
            await asyncio.to_thread(engine.pin, registry.ref(name, version))
        except AdapterError:
            await asyncio.to_thread(registry.pin, name, version.version, pinned=False)
            raise
    return PinnedVersion(name=name, version=version.version, pinned=body.pinned)


@router.post("/{name}/canary")
async def canary(
    name: str, body: CanaryRequest, workspace: CurrentWorkspace, service: CurrentService
) -> AdapterResponse:
    """Try a version beside the active one, on a share of the requests for the bare name; 0 percent ends it.

    The same session (`X-Session-Id`; `user` in chats) stays in one arm. A canary whose thumbs or confidence fall is
    taken back by itself: docs/adapters.md.
    """
    await asyncio.to_thread(workspace.erasures.refuse_blocked, name, body.version)
    await asyncio.to_thread(workspace.adapters.try_out, name, body.version, body.percent, body.mode)
    return await adapter(name, workspace, service)


def _trial(adapter: Adapter, workspace: Workspace) -> TrialResponse | None:
    """How the trial stands; reads counts from the database."""
    trial = adapter.trial
    if trial is None:
        return None
    shown = TrialResponse(version=trial.version, percent=trial.percent, mode=trial.mode, since=trial.since)
    if trial.mode == "shadow":
        shown.shadow = ShadowComparison(**asdict(workspace.trials.shadow(adapter)))
    else:
        tried, active = workspace.trials.arms(adapter)
        shown.candidate = _arm(tried)
        shown.active = _arm(active) if active is not None else None
    return shown


def _arm(counts: ArmCounts) -> TrialArm:
    return TrialArm(**{name: value for name, value in asdict(counts).items() if name != "spread"})


def _gate(result: GateResult | None, workspace: Workspace) -> GateResponse | None:
    if result is None:
        return None
    may_promote = not workspace.policy.current.require_gate
    advice = with_routes(result.advice, result.adapter, result.version, may_promote=may_promote)
    return GateResponse(
        passed=result.passed, promoted=result.promoted, reasons=result.reasons, evaluation_id=result.evaluation_id,
        advice=None if advice is None else GateAdvice(**advice), at=result.at,
    )  # fmt: skip


def _state(key: str, memory: AdapterMemory) -> Literal["registered", "loading", "resident"]:
    if key in memory.resident:
        return "resident"
    return "loading" if key in memory.loading else "registered"


def _response(adapter: Adapter, workspace: Workspace, memory: AdapterMemory) -> AdapterResponse:
    decided = workspace.gates.decided(adapter.name)
    return AdapterResponse(
        name=adapter.name,
        active=adapter.active,
        default=workspace.adapters.default == adapter.name,
        versions=[
            AdapterVersionResponse(
                version=v.version,
                sha256=v.sha256,
                bytes=v.bytes,
                kind=v.kind,
                rank=v.rank,
                state=_state(workspace.adapters.ref(adapter.name, v).key, memory),
                pinned=v.version in adapter.pinned,
                created_at=v.created_at,
                lineage=None if v.lineage is None else LineageResponse(**asdict(v.lineage)),
                tainted=[
                    ErasedDocument(document_id=e.document_id, sha256=e.sha256, cause=e.cause, at=e.at)
                    for e in workspace.erasures.of(v)
                ],
                gate=_gate(decided.get((adapter.name, v.version)), workspace),
            )
            for v in adapter.versions.values()
        ],
        trial=_trial(adapter, workspace),
        history=[
            AdapterEventResponse(at=e.at, event=e.kind, version=e.version, before=e.before, reason=e.reason)
            for e in reversed(adapter.events)
        ],
    )
