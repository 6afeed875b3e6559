"""`lorebase jobs`, and how other commands follow the jobs they begin."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from app.client import LorebaseClient
from app.schemas import JobResponse
from app.terminal.failures import CommandFailed, Exit
from app.terminal.output import table
from app.terminal.session import Session, on_service

group = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Background jobs: ingestions, trainings, evaluations."
)
JobId = Annotated[str, typer.Argument(help="The job's id.")]


@group.command("list")
@on_service()
def list_jobs(
    session: Session,
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
) -> None:
    """The tenant's jobs, newest first."""
    page = session.client.jobs(limit=limit, state=state)
    rows = [
        (job.id, job.kind, job.state, f"{job.progress.done}/{job.progress.total} {job.progress.unit}", job.error)
        for job in page.jobs
    ]
    session.output.result(page, table(("id", "kind", "state", "progress", "error"), rows, "There are no jobs."))


@group.command()
@on_service()
def show(session: Session, job_id: JobId) -> None:
    """One job, with its documents."""
    job = session.client.job(job_id)
    facts = [(name, value) for name, value in job.model_dump(mode="json").items() if value not in (None, [], {})]
    session.output.result(job, table(("field", "value"), facts, ""))


@group.command()
@on_service()
def follow(session: Session, job_id: JobId) -> None:
    """Wait for a job, with its progress."""
    session.output.result(followed(session, session.client.job(job_id)), f"The job {job_id} has succeeded.")


@group.command()
@on_service()
def cancel(session: Session, job_id: JobId) -> None:
    """End a job."""
    job = session.client.cancel_job(job_id)
    session.output.result(job, f"The job {job_id} is {job.state}.")


def followed(session: Session, begun: JobResponse) -> JobResponse:
    """The job when it has succeeded; its progress is shown meanwhile. Leaving leaves the job running.

    Raises:
        CommandFailed: it failed, or was cancelled.
    """
    try:
        with session.output.progress() as progress:
            shown = progress.add_task(begun.kind, total=None)
            job = watched(session.client, begun, progress, shown)
    except KeyboardInterrupt as error:
        session.output.note(f"The job goes on without this command: lorebase jobs follow {begun.id}")
        raise typer.Exit(Exit.INTERRUPTED) from error
    if job.state != "succeeded":
        raise CommandFailed(f"The job has {job.state}: {job.error or 'no reason given'}", f"job_{job.state}")
    return job


def watched(client: LorebaseClient, begun: JobResponse, progress: Progress, shown: TaskID) -> JobResponse:
    """The job when it has ended, well or not; its stages and progress are shown in a bar."""
    job = begun
    while job.state in ("queued", "running"):
        for job in client.follow_job(begun.id):
            words = [job.stage or job.state]
            words += [f"loss {job.loss:.3f}"] if job.loss is not None else []
            total = job.progress.total or None
            progress.update(shown, description=", ".join(words), completed=job.progress.done, total=total)
    return job
