"""Train adapters: start a job; look at its loss curve."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from app.problems import not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, JobId, ReadyEngine
from app.routes.jobs import job_response
from app.schemas import JobResponse
from app.training_jobs import TrainingOrder
from app.training_schemas import LossCurve, LossPoint, TrainRequest

router = APIRouter(tags=["training"])


@router.post("/adapters/{name}/train", status_code=202)
async def train(
    name: str, body: TrainRequest, workspace: CurrentWorkspace, service: CurrentService, engine: ReadyEngine
) -> JobResponse:
    """Train a new version of an adapter, in the background. The version is not active until promoted."""
    dataset = body.dataset if isinstance(body.dataset, str) else None
    order = TrainingOrder(name, body.objective, dataset, body.hyperparameters(), body.top_k)
    job_id = await asyncio.to_thread(service.trainings.start, workspace, order)
    service.wake_tasks(workspace.tenant_id)
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.get("/jobs/{job_id}/loss")
async def loss(job_id: JobId, workspace: CurrentWorkspace) -> LossCurve:
    """The loss curve of a training so far, at most some hundred points."""
    if await asyncio.to_thread(workspace.jobs.get, job_id) is None:
        raise not_found("job")
    points = await asyncio.to_thread(workspace.tasks.losses, job_id)
    return LossCurve(points=[LossPoint(step=point.step, loss=round(point.loss, 5)) for point in points])
