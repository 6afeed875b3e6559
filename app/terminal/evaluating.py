"""The command `lorebase evaluate`: reads its options, starts or reaches a service, and shows what was measured.

Figures go to standard output, progress and errors to standard error. Exit code 2 means that the command was given
something it cannot use; 1, that the service failed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.errors import InvalidTrainingData
from adapters.squad import Question, read_squad
from app.answer_metrics import Outcome, summarize
from app.client import ADAPTER_FILES, LorebaseClient, ServiceError
from app.evaluation import (
    EvaluationFailed,
    Evaluator,
    Granularity,
    Options,
    read_articles,
    sample,
)
from app.evaluation_report import Setup, comparison_table, figures, report_table
from app.local_server import ServerFailed, local_server

Connect = Callable[[], LorebaseClient]
_BASE = "base"
_POLL_SECONDS = 0.2
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Unit(StrEnum):
    """What is ingested as one document."""

    article = "article"
    paragraph = "paragraph"


class Abstain(StrEnum):
    """Whether the service may leave a question unanswered."""

    auto = "auto"
    on = "on"
    off = "off"


class _Unusable(Exception):
    """The command was given something it cannot use."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Which service to ask; None starts one."""

    url: str | None
    key: str | None


def evaluate_command(
    data: Annotated[Path, typer.Option(help="Question set in SQuAD v1.1 or v2.0 format (JSON).")],
    given_paragraph: Annotated[
        bool, typer.Option("--given-paragraph", help="No retrieval: answer from the question's own paragraph.")
    ] = False,
    granularity: Annotated[Unit, typer.Option(help="What is ingested as one document.")] = Unit.article,
    adapter: Annotated[
        str, typer.Option(help="An adapter's name, or its folder, which is then uploaded and promoted.")
    ] = _BASE,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only so many questions, drawn by --seed.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Passages an answer is read from.")] = 5,
    abstain: Annotated[
        Abstain,
        typer.Option(help="May the service abstain? auto: only if the set has unanswerable questions, as SQuAD does."),
    ] = Abstain.auto,
    url: Annotated[str | None, typer.Option(help="A running service; without it, one is started.")] = None,
    key: Annotated[str | None, typer.Option(help="Tenant key for --url. The set stays in a collection there.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Questions under way at a time.")] = 1,
    seed: Annotated[int, typer.Option(help="Draws the questions of --limit and the interval of F1.")] = 0,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Prompt only, RAG, adapter, RAG + adapter side by side, with a recommendation."),
    ] = False,
    report: Annotated[
        list[Path] | None, typer.Option(help="With --compare: write the report here, .html or .md; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Measure retrieval and answers on a question set, through the real service."""
    began = time.perf_counter()
    try:
        place = _place(url, key)
        if compare:
            asked = sample(_read(data), limit, seed)
            _compare(place, data, asked, Options(given_paragraph, _granularity(granularity), adapter, None, top_k),
                     abstain, _report_formats(report or []), as_json)  # fmt: skip
            return
        asked = sample(_read(data), limit, seed)
        unanswerable = sum(not q.answerable for q in asked)
        abstains = abstain is Abstain.on or (abstain is Abstain.auto and unanswerable > 0)
        options = Options(
            given_paragraph, _granularity(granularity), adapter, None if abstains else 0.0, top_k, concurrency
        )
        options, outcomes = _measure(place, data, asked, options)
    except (_Unusable, InvalidTrainingData) as error:
        raise _exit(str(error), 2) from error
    except (EvaluationFailed, ServiceError, ServerFailed) as error:
        raise _exit(str(error), 1) from error
    summary = summarize(outcomes, retrieval=not given_paragraph, seed=seed)
    setup = Setup(
        data=data.name, options=options, abstains=abstains, unanswerable=unanswerable,
        adapter=options.adapter or _BASE, seed=seed, seconds=time.perf_counter() - began,
    )  # fmt: skip
    Console().print(report_table(summary, setup))
    if as_json:
        typer.echo(json.dumps(figures(summary, setup), ensure_ascii=False))


def adapter_name(folder: Path) -> str:
    """The name a folder's adapter gets: the folder's own, made to fit the rule for names. Raises ValueError."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).lstrip("._-")[:63]
    if not _NAME.fullmatch(name) or name in (_BASE, "default"):
        raise ValueError(f"{folder}: an adapter cannot be named after this folder; rename it.")
    return name


def _place(url: str | None, key: str | None) -> _Place:
    if bool(url) != bool(key):
        raise _Unusable("--url and --key go together.")
    return _Place(url, key)


def _read(data: Path) -> list[Question]:
    try:
        questions = read_squad(data)
    except OSError as error:
        raise _Unusable(f"{data}: {error.strerror}") from error
    if not questions:
        raise _Unusable(f"{data}: holds no questions.")
    return questions


def _granularity(unit: Unit) -> Granularity:
    return "paragraph" if unit is Unit.paragraph else "article"


def _report_formats(paths: Sequence[Path]) -> dict[Path, str]:
    formats = {".html": "html", ".md": "markdown"}
    for path in paths:
        if path.suffix not in formats:
            raise _Unusable(f"{path}: a report is written to a file that ends in .html or .md.")
    return {path: formats[path.suffix] for path in paths}


def _compare(
    place: _Place, data: Path, asked: Sequence[Question], options: Options, abstain: Abstain,
    reports: dict[Path, str], as_json: bool,
) -> None:  # fmt: skip
    folder = _adapter_folder(options.adapter or _BASE)
    with _service(place) as connect, _progress() as progress, connect() as client:
        adapter = _upload(client, folder) if folder is not None else options.adapter
        evaluator = Evaluator(connect, options, progress)
        if not options.given_paragraph:
            evaluator.ingest(read_articles(data))
        started = client.evaluate(
            {
                "name": data.name,
                "questions": [evaluator.placed(question) for question in asked],
                "adapter": adapter,
                "top_k": options.top_k,
                "collection": evaluator.collection,
                "passages": "given" if options.given_paragraph else "retrieved",
                "abstain": abstain.value,
            }
        )
        while (job := client.job(started.job_id)).state in ("queued", "running"):
            progress("compare", job.progress.done, job.progress.total)
            time.sleep(_POLL_SECONDS)
        progress("compare", job.progress.done, job.progress.total)
        if job.state != "succeeded":
            raise EvaluationFailed(job.error or f"The evaluation was {job.state}.")
        found = client.evaluation(started.evaluation_id)
        for path, kind in reports.items():
            path.write_text(client.evaluation_report(found.id, kind), encoding="utf-8")
    Console().print(comparison_table(found))
    if as_json:
        typer.echo(found.model_dump_json())


def _measure(place: _Place, data: Path, asked: Sequence[Question], options: Options) -> tuple[Options, list[Outcome]]:
    folder = _adapter_folder(options.adapter or _BASE)
    with _service(place) as connect, _progress() as progress:
        if folder is not None:
            with connect() as client:
                options = replace(options, adapter=_upload(client, folder))
        evaluator = Evaluator(connect, options, progress)
        if not options.given_paragraph:
            evaluator.ingest(read_articles(data))
        return options, evaluator.run(asked)


def _adapter_folder(adapter: str) -> Path | None:
    """The folder an adapter option points to, or None if it is a name."""
    folder = Path(adapter)
    if all((folder / name).is_file() for name in ADAPTER_FILES):
        return folder
    if folder.is_dir() or not _NAME.fullmatch(adapter.partition("@")[0]):
        raise _Unusable(f"{adapter}: neither an adapter's name nor a folder with {' and '.join(ADAPTER_FILES)}.")
    return None


def _upload(client: LorebaseClient, folder: Path) -> str:
    try:
        name = adapter_name(folder)
    except ValueError as error:
        raise _Unusable(str(error)) from error
    version = client.upload_adapter(name, folder).version
    client.promote(name, version)
    return f"{name}@{version}"


@contextmanager
def _service(place: _Place) -> Iterator[Connect]:
    if place.url and place.key:
        url, key = place.url, place.key
        yield lambda: LorebaseClient(url, key)
    else:
        with local_server() as server:
            yield server.client


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
            bar.update(tasks[phase], completed=done)

        yield show


def _exit(message: str, code: int) -> typer.Exit:
    typer.echo(" ".join(message.splitlines()) if code == 2 else message, err=True)
    return typer.Exit(code)
