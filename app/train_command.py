"""`lorebase train job` and `lorebase dataset build`: long jobs of a running service, followed from the terminal.

Progress goes to standard error, the outcome to standard output. Ending the command leaves the job running.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.client import LorebaseClient, ServiceError
from app.schemas import JobResponse

_STILL_THERE = (
    "The job goes on without this terminal. GET /jobs/{id} tells how far it is; {url}/jobs/{id}/cancel ends it."
)


def train_job_command(
    adapter: Annotated[str, typer.Argument(help="The adapter that gets a new version.")],
    key: Annotated[str, typer.Option(envvar="LOREBASE_DEFAULT_KEY", help="The tenant's key.")],
    data: Annotated[Path | None, typer.Option(help="A set in JSON Lines or SQuAD format, which is uploaded.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Or the id or name of a set the service has.")] = None,
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://127.0.0.1:8000",
    method: Annotated[str, typer.Option()] = "lora",
    objective: Annotated[str, typer.Option()] = "sft",
    rank: Annotated[int | None, typer.Option()] = None,
    targets: Annotated[str | None, typer.Option(help="qv, attention or all.")] = None,
    epochs: Annotated[float | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Train a new version of an adapter in a running service, and follow the job."""
    if (data is None) == (dataset is None):
        raise typer.BadParameter("give either --data or --dataset")
    settings = {
        "method": method, "objective": objective, "rank": rank, "targets": targets, "epochs": epochs,
        "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    with LorebaseClient(url, key) as client:
        raise typer.Exit(_train(client, url, adapter, data, dataset, settings))


def dataset_build_command(
    key: Annotated[str, typer.Option(envvar="LOREBASE_DEFAULT_KEY", help="The tenant's key.")],
    name: Annotated[str | None, typer.Option(help="A name for the set; the other one is NAME-held-out.")] = None,
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://127.0.0.1:8000",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Examples at most.")] = 500,
    held_out: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the documents held out.")] = 0.2,
) -> None:
    """Make a training set from the documents of a running service: questions that search and model answer again."""
    console = Console(stderr=True)
    with LorebaseClient(url, key) as client:
        try:
            ended = _follow(client, client.build_dataset(name=name, limit=limit, held_out=held_out), console)
        except ServiceError as error:
            console.print(str(error), style="red")
            raise typer.Exit(2) from error
    if ended.state != "succeeded" or ended.result is None:
        console.print(f"The job has {ended.state}: {ended.error or 'no reason given'}", style="red")
        raise typer.Exit(1)
    made = ended.result
    Console().print(
        f"{made['examples']} examples in {made['dataset']}, {made['held_out_examples']} held out in "
        f"{made['held_out']}, of {made['questions_tried']} questions tried."
    )


def _train(
    client: LorebaseClient, url: str, adapter: str, data: Path | None, dataset: str | None, settings: dict[str, Any]
) -> int:
    console = Console(stderr=True)
    job: JobResponse | None = None
    try:
        wanted = client.upload_dataset(data).id if data is not None else str(dataset)
        job = client.train(adapter, wanted, **settings)
        for warning in job.warnings:
            console.print(warning, style="yellow")
        ended = _follow(client, job, console)
    except (ServiceError, OSError) as error:
        console.print(str(error), style="red")
        return 2
    except KeyboardInterrupt:
        if job is not None:
            console.print(_STILL_THERE.format(id=job.id, url=url))
        return 130
    if ended.state == "succeeded" and ended.result is not None:
        name, version = ended.result["adapter"], ended.result["version"]
        Console().print(f"{name}@{version} is registered (loss {ended.loss}); POST /adapters/{name}/promote serves it.")
        return 0
    console.print(f"The job has {ended.state}: {ended.error or 'no reason given'}", style="red")
    return 1


def _follow(client: LorebaseClient, begun: JobResponse, console: Console) -> JobResponse:
    job = begun
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task("queued", total=None)
        for job in client.follow_job(begun.id):
            words = [job.stage or job.state]
            words += [f"loss {job.loss:.3f}"] if job.loss is not None else []
            words += [f"{job.eta_seconds:.0f} s left"] if job.eta_seconds is not None else []
            total = job.progress.total or None
            bar.update(shown, description=", ".join(words), completed=job.progress.done, total=total)
    return job
