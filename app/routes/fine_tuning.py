"""OpenAI's fine-tuning jobs over the tenant's trainings: the same jobs, in the shape the official clients know."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from adapters import BASE, Engine
from adapters.training import config_of
from app.fine_tuning_schemas import (
    FineTuningError,
    FineTuningEvent,
    FineTuningEventList,
    FineTuningJob,
    FineTuningJobList,
    FineTuningRequest,
)
from app.jobs import Job
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, ReadyEngine
from app.routes.files import FILE_PREFIX, set_id
from app.tasks import Task
from app.training_jobs import TrainingOrder
from app.workspace import Workspace

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["openai"])
JOB_PREFIX = "ftjob-"
After = Annotated[str | None, Query(max_length=100)]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("")
async def create(
    body: FineTuningRequest, workspace: CurrentWorkspace, service: CurrentService, engine: ReadyEngine
) -> FineTuningJob:
    """Train a new version of an adapter, as `POST /adapters/{name}/train` does. It serves its bare name once promoted,
    and `name@version` at once."""
    order = TrainingOrder(
        _adapter(body, workspace, engine),
        body.objective,
        set_id(body.training_file),
        _settings(body, engine),
        body.lorebase.top_k,
        metadata=body.metadata or {},
    )
    job_id = await asyncio.to_thread(service.trainings.start, workspace, order)
    service.wake_tasks(workspace.tenant_id)
    return await asyncio.to_thread(_found, workspace, engine, job_id)


@router.get("")
async def jobs(
    workspace: CurrentWorkspace, engine: ReadyEngine, after: After = None, limit: Limit = 20
) -> FineTuningJobList:
    """The tenant's trainings, newest first."""
    before = None if after is None else after.removeprefix(JOB_PREFIX)
    found = await asyncio.to_thread(workspace.tasks.of_kind, "train", limit + 1, before)
    shown = await asyncio.to_thread(lambda: [_found(workspace, engine, each.job_id) for each in found[:limit]])
    return FineTuningJobList(data=shown, has_more=len(found) > limit)


@router.get("/{job_id}")
async def job(job_id: str, workspace: CurrentWorkspace, engine: ReadyEngine) -> FineTuningJob:
    """A training as it stands."""
    return await asyncio.to_thread(_found, workspace, engine, job_id)


@router.post("/{job_id}/cancel")
async def cancel(job_id: str, workspace: CurrentWorkspace, engine: ReadyEngine) -> FineTuningJob:
    """End a training; it makes no version. One that has ended stays as it is."""
    found, _ = await asyncio.to_thread(_rows, workspace, job_id)
    await asyncio.to_thread(workspace.ingestion.cancel, found.id)
    return await asyncio.to_thread(_found, workspace, engine, job_id)


@router.get("/{job_id}/events")
async def events(
    job_id: str, workspace: CurrentWorkspace, after: After = None, limit: Limit = 20
) -> FineTuningEventList:
    """What happened so far, newest first: messages, and the loss as metrics."""
    told = await asyncio.to_thread(_events, workspace, job_id)
    if after is not None:
        ids = [each.id for each in told]
        told = told[ids.index(after) + 1 :] if after in ids else []
    return FineTuningEventList(data=told[:limit], has_more=len(told) > limit)


def _adapter(body: FineTuningRequest, workspace: Workspace, engine: Engine) -> str:
    name = body.model.partition("@")[0]
    if name in workspace.adapters.names():
        if body.suffix not in (None, name):
            raise Problem(422, "invalid_request", f"suffix: model names the adapter {name!r} already; leave it out.")
        return name
    if body.model not in (BASE, engine.name):
        raise Problem(
            404, "model_not_found", f"There is no model {body.model[:80]!r}; GET /v1/models lists those there are."
        )
    if body.suffix is None:
        raise Problem(422, "invalid_request", "suffix: is needed beside the base model: it names the adapter.")
    return body.suffix


def _settings(body: FineTuningRequest, engine: Engine) -> dict[str, Any]:
    """Hyper-parameters by the names this service has for them."""
    chosen, options = body.chosen(), body.lorebase
    settings = options.model_dump(exclude_none=True, exclude={"top_k"})
    if body.seed is not None:
        settings["seed"] = body.seed
    for theirs, ours in (("n_epochs", "epochs"), ("batch_size", "batch_size"), ("beta", "beta")):
        if theirs in chosen:
            settings[ours] = chosen[theirs]
    if (times := chosen.get("learning_rate_multiplier")) is not None:
        settings["learning_rate"] = config_of(settings, generates=engine.generates).learning_rate * times
    return settings


def _rows(workspace: Workspace, job_id: str) -> tuple[Job, Task]:
    plain = job_id.removeprefix(JOB_PREFIX)
    found, task = workspace.jobs.get(plain), workspace.tasks.get(plain)
    if found is None or task is None or task.kind != "train":
        raise not_found("fine-tuning job")
    return found, task


def _found(workspace: Workspace, engine: Engine, job_id: str) -> FineTuningJob:
    found, task = _rows(workspace, job_id)
    asked, config = task.request, task.request["config"]
    usual = config_of({"method": asked["method"]}, generates=engine.generates)
    used = {
        "n_epochs": config["epochs"],
        "batch_size": config["batch_size"],
        "learning_rate_multiplier": round(config["learning_rate"] / usual.learning_rate, 6),
    }
    if asked["objective"] == "dpo":
        used["beta"] = config["beta"]
    kind: Literal["supervised", "dpo"] = "dpo" if asked["objective"] == "dpo" else "supervised"
    done = task.result
    error = None
    if found.state == "failed":
        error = FineTuningError(code="training_failed", message=found.error or "The training failed.")
    return FineTuningJob(
        id=JOB_PREFIX + found.id,
        created_at=int(found.created_at),
        finished_at=None if found.ended_at is None else int(found.ended_at),
        estimated_finish=None if task.eta_seconds is None else int(time.time() + task.eta_seconds),
        model=engine.name,
        fine_tuned_model=None if done is None else f"{done['adapter']}@{done['version']}",
        status=found.state,
        training_file=FILE_PREFIX + asked["dataset"],
        seed=config["seed"],
        hyperparameters=used,
        method={"type": kind, kind: {"hyperparameters": used}},
        error=error,
        metadata=asked.get("metadata", {}),
    )


def _events(workspace: Workspace, job_id: str) -> list[FineTuningEvent]:
    """Everything that can be told of a training, newest first. Ids stay the same as more comes."""
    found, task = _rows(workspace, job_id)
    began = found.started_at or found.created_at
    told = [_event(found, "created", found.created_at, f"Asked for a new version of {task.request['adapter']!r}.")]
    told += [
        _event(found, f"warning-{n}", found.created_at, warning, level="warn")
        for n, warning in enumerate(task.warnings)
    ]
    if found.started_at is not None:
        told.append(_event(found, "started", found.started_at, "The training has begun."))
    for step, loss in workspace.tasks.losses(found.id):
        message = f"Step {step} of {task.total}: training loss {loss:.4f}"
        told.append(_event(found, f"step-{step}", began, message, data={"step": step, "train_loss": loss}))
    if found.ended_at is not None:
        made = f"Made {task.result['adapter']}@{task.result['version']}." if task.result is not None else ""
        said = {"succeeded": made, "cancelled": "Cancelled."}.get(found.state, found.error or "It failed.")
        level: Literal["error", "info"] = "error" if found.state == "failed" else "info"
        told.append(_event(found, "ended", found.ended_at, said, level=level))
    return told[::-1]


def _event(
    found: Job,
    what: str,
    at: float,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    data: dict[str, Any] | None = None,
) -> FineTuningEvent:
    return FineTuningEvent(
        id=f"ftevent-{found.id}-{what}",
        created_at=int(at),
        level=level,
        message=message,
        type="message" if data is None else "metrics",
        data=data,
    )
