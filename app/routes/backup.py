"""The whole data folder as one archive, for the admin."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.problems import Problem
from app.routes.dependencies import CurrentService
from app.service import BackupRunning

router = APIRouter(tags=["backup"])


@router.get("/backup", response_class=StreamingResponse)
async def take_backup(service: CurrentService) -> StreamingResponse:
    """A tar archive of every tenant, taken while the service works; `lorebase restore` makes a data folder of it. It is
    complete when its last file is `manifest.json`."""
    try:
        pieces = service.backup()
    except BackupRunning as error:
        raise Problem(409, "backup_running", str(error)) from error
    headers = {"Content-Disposition": 'attachment; filename="lorebase-backup.tar"'}
    return StreamingResponse(pieces, media_type="application/x-tar", headers=headers)
