"""The whole data folder as one archive, for the admin; one tenant as one, for its own admin too."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.problems import Problem
from app.routes.dependencies import CurrentService, ManagedTenant
from app.service import BackupElsewhere, BackupRunning, Service

router = APIRouter(tags=["backup"])


@router.get("/backup", response_class=StreamingResponse, responses={200: {"content": {"application/x-tar": {}}}})
async def take_backup(service: CurrentService) -> StreamingResponse:
    """A tar archive of every tenant, taken while the service works; `lorebase restore` makes a data folder of it. It is
    complete when its last file is `manifest.json`."""
    return _archive(service, None, "lorebase-backup.tar")


@router.get("/tenants/{tenant_id}/export", response_class=StreamingResponse)
async def export(tenant_id: ManagedTenant, service: CurrentService) -> StreamingResponse:
    """The same of one tenant alone, with its audit log and the hashes of its keys: `lorebase restore` makes a data
    folder of it, on another machine too."""
    return _archive(service, tenant_id, f"lorebase-{tenant_id}.tar")


def _archive(service: Service, tenant_id: str | None, name: str) -> StreamingResponse:
    try:
        pieces = service.backup(tenant_id)
    except BackupRunning as error:
        raise Problem(409, "backup_running", str(error)) from error
    except BackupElsewhere as error:
        raise Problem(409, "backup_elsewhere", str(error)) from error
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="application/x-tar", headers=headers)
