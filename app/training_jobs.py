"""Training as a job: what is asked for is checked at once, prepared with the tenant's own retrieval, trained in a child
process, checked as an upload is, and registered as a new version that is not active.

Everything on the way lies in the job's folder, so a job goes on after a crash of the service or of the child, and a
version is listed complete or not at all. Knows data sets, corpora, the registry and the child; knows no HTTP.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Engine, Lineage, Passage, check_name
from adapters.errors import InvalidTrainingData
from adapters.training import (
    Objective,
    TrainingBroke,
    TrainingConfig,
    TrainingExample,
    TrainingFailed,
    TrainingProcess,
    TrainingSpec,
    check_examples,
    config_of,
    config_to_dict,
    dump_examples,
    find_answer,
    load_examples,
)
from app.answering import language_warning
from app.datasets import UnknownDataset
from app.feedback_data import feedback_set
from app.limits import QuotaExceeded
from app.settings import Settings
from app.task_worker import Control, Interrupted, TaskFailed
from app.tasks import Task
from app.workspace import Workspace

_log = logging.getLogger("lorebase.training")
_FOLDER, _EXAMPLES, _SOURCES = "training", "examples.jsonl", "sources.json"
_CHILDREN = 3  # processes that may break without a word before the job is given up
_UNANSWERABLE_SHARE = 0.25  # of the answered examples: so many without an answer at most come from failed retrieval


@dataclass(frozen=True)
class TrainingOrder:
    """What a client asks for.

    Attributes:
        dataset: id or name of a data set; None: what people said of answers.
        given: hyper-parameters that were set; the others follow from the method.
        top_k: passages to retrieve for an example that brings none.
    """

    adapter: str
    objective: Objective
    dataset: str | None
    given: Mapping[str, Any]
    top_k: int


class Trainings:
    """Starts trainings and does them.

    Args:
        engine: serves what is trained: it names the base and checks the result.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    def start(self, workspace: Workspace, order: TrainingOrder) -> str:
        """Check what is asked for and queue it; the job's id. Nothing is queued when it is refused.

        Raises:
            InvalidAdapterName, UnknownDataset, InvalidTrainingData, ModelUnavailable, TooManyTasks, TooManyDatasets,
            TooManyVersions, QuotaExceeded
        """
        check_name(order.adapter)
        workspace.adapters.refuse_over(workspace.limits().adapter_versions)
        _refuse_over_budget(workspace)
        config = config_of(order.given, generates=self._engine.generates)
        if config.method == "full":
            self._refuse_what_is_too_large()
        if order.objective != "sft" and not self._engine.generates:
            raise InvalidTrainingData(
                f"{order.objective} compares texts that a model wrote; the reader quotes. Use sft: corrections are "
                "then learned as answers."
            )
        dataset = feedback_set(workspace) if order.dataset is None else workspace.datasets.get(order.dataset)
        _, warnings = self._checked(workspace, workspace.datasets.examples(dataset.id), order.objective)
        request = {
            "adapter": order.adapter,
            "method": config.method,
            "objective": order.objective,
            "dataset": dataset.id,
            "top_k": order.top_k,
            "config": asdict(config),
            "base": self._engine.fingerprint,
        }
        return workspace.tasks.add("train", request, "steps", self._settings.max_pending_trainings, warnings)

    def _refuse_what_is_too_large(self) -> None:
        size, most = self._engine.weight_bytes, self._engine.adapter_memory().budget_bytes
        if not size:
            raise InvalidTrainingData("Whole models cannot be served beside this base; use another method.")
        if size > most:
            raise InvalidTrainingData(
                f"A whole model takes the base's {size} bytes of memory once more for each version; adapters may take "
                f"{most} together. Raise LOREBASE_ADAPTER_MEMORY_MB, use another method, or train one to serve by "
                "itself with `lorebase train adapter`."
            )

    def run(self, workspace: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        """Do a training, from its beginning or from where a crash left it: `app.task_worker.TaskFunction`."""
        root = workspace.folder / _FOLDER
        folder = root / task.job_id
        _sweep(root, keep={*workspace.tasks.unfinished_ids()})
        folder.mkdir(parents=True, exist_ok=True)
        leave = False
        try:
            made = workspace.adapters.made_by(task.request["adapter"], task.job_id)
            if made is None:
                self._prepare(workspace, task, control, folder)
                facts = self._train(workspace, task, control, folder)
                control.report("checking")
                lineage = self._lineage(task, facts, folder)
                config, weights = (
                    (folder / "output" / name).read_bytes() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
                )
                made = workspace.adapters.add(
                    task.request["adapter"],
                    config,
                    weights,
                    self._engine.check,
                    lineage,
                    workspace.limits().adapter_versions,
                )
            return {"adapter": task.request["adapter"], "version": made.version, "sha256": made.sha256}
        except Interrupted:
            leave = control.stopping.is_set()
            raise
        finally:
            if not leave:
                shutil.rmtree(folder, ignore_errors=True)

    def _checked(
        self, workspace: Workspace, examples: list[TrainingExample], objective: Objective
    ) -> tuple[list[TrainingExample], list[str]]:
        kept, warnings = check_examples(
            examples, objective, quotes=not self._engine.generates, english=workspace.english_only
        )
        if workspace.english_only:
            foreign = [e for e in kept if language_warning(e.question, "") is not None]
            if foreign:
                warnings.append(
                    f"{len(foreign)} questions are not in Latin script, which the default models cannot read: "
                    f"{foreign[0].question[:60]!r}. Set LOREBASE_MODEL to a model of their language."
                )
        return kept, warnings

    def _prepare(self, workspace: Workspace, task: Task, control: Control, folder: Path) -> None:
        """Write the examples, each with passages, unless an earlier process has."""
        if (folder / _EXAMPLES).is_file():
            return
        try:
            dataset = workspace.datasets.get(task.request["dataset"])
            stored = workspace.datasets.examples(dataset.id)
        except UnknownDataset as error:
            raise TaskFailed("The data set was deleted before the training began. Send it again.") from error
        objective: Objective = task.request["objective"]
        examples, warnings = self._checked(workspace, stored, objective)
        sources = {e.document for e in examples if e.document} if dataset.source != "upload" else set()
        prepared: list[TrainingExample] = []
        for number, example in enumerate(examples):
            control.report("preparing", done=number, total=len(examples)) if number % 20 == 0 else control.check()
            if example.passages:
                prepared.append(example)
            else:
                with_passages, found = _retrieved(workspace, example, int(task.request["top_k"]))
                sources |= found
                prepared.append(with_passages)
        if not self._engine.generates:
            prepared = _balanced(prepared, warnings)
        if not any(example.passages for example in prepared):
            raise TaskFailed("The examples bring no passages and the tenant has no documents to find them in. Ingest "
                             "the documents first.")  # fmt: skip
        workspace.tasks.warn(task.job_id, warnings)
        _write(folder / _SOURCES, json.dumps(sorted(sources)).encode())
        _write(folder / _EXAMPLES, dump_examples(prepared))
        control.report("starting", done=0, total=0)

    def _train(self, workspace: Workspace, task: Task, control: Control, folder: Path) -> dict[str, Any]:
        """Train in a child, in another one where a child breaks; what the last one tells of the run."""
        settings = self._settings
        config = task.request["config"]
        spec = TrainingSpec(
            folder,
            replace(TrainingConfig(**config), schedule=tuple(tuple(point) for point in config["schedule"])),
            task.request["objective"],
            settings.model,
            settings.dtype,
            task.request["base"],
            threads=settings.training_threads,
            niceness=settings.training_niceness,
            memory_bytes=settings.training_memory_mb * 1024**2,
            checkpoint_seconds=settings.training_checkpoint_seconds,
        )
        seconds = max(1.0, min(settings.training_seconds - task.seconds, _budget_seconds(workspace)))
        meter = _Meter(workspace)
        for attempt in range(_CHILDREN):
            with TrainingProcess(spec) as child:
                try:
                    return _follow(child, seconds, control, meter)
                except TrainingBroke as error:
                    _log.warning("a training broke: %s\n%s", error, child.last_words(), extra={"job": task.job_id})
                    if attempt == _CHILDREN - 1:
                        raise TaskFailed(str(error)) from error
                except TrainingFailed as error:
                    _log.info("a training failed: %s\n%s", error, child.last_words(), extra={"job": task.job_id})
                    raise TaskFailed(str(error)) from error
        raise AssertionError

    def _lineage(self, task: Task, facts: dict[str, Any], folder: Path) -> Lineage:
        config = TrainingConfig(**task.request["config"])
        return Lineage(
            method=config.method,
            objective=task.request["objective"],
            parameters=config_to_dict(config),
            dataset=task.request["dataset"],
            code_version=installed_version("lorebase"),
            examples=len(load_examples((folder / _EXAMPLES).read_bytes())),
            documents=tuple(json.loads((folder / _SOURCES).read_bytes())),
            job_id=task.job_id,
            **facts,
        )


class _Meter:
    """Counts the seconds of a training as the tenant's, as they pass."""

    def __init__(self, workspace: Workspace) -> None:
        self._usage = workspace.usage
        self._counted = time.monotonic()

    def count(self) -> None:
        now = time.monotonic()
        self._usage.add(training_seconds=now - self._counted)
        self._counted = now


def _budget_seconds(workspace: Workspace) -> float:
    """What the tenant may train today yet. Raises QuotaExceeded when that is nothing."""
    _refuse_over_budget(workspace)
    minutes = workspace.limits().training_minutes_per_day
    return math.inf if minutes is None else max(1.0, 60.0 * minutes - workspace.usage.today().training_seconds)


def _refuse_over_budget(workspace: Workspace) -> None:
    minutes = workspace.limits().training_minutes_per_day
    if minutes is None:
        return
    used = workspace.usage.today().training_seconds / 60
    if used >= minutes:
        raise QuotaExceeded(
            "training_minutes_per_day",
            minutes,
            used,
            "Start the training again tomorrow (UTC), or ask the service's admin for more.",
        )


def _follow(child: TrainingProcess, seconds: float, control: Control, meter: _Meter) -> dict[str, Any]:
    for event in child.events(seconds, control.check):
        meter.count()
        kind = event.pop("event")
        if kind == "stage":
            control.report(event["stage"])
        elif kind == "progress":
            control.report(
                "training",
                done=event["step"],
                total=event["steps"],
                eta_seconds=event["eta_seconds"],
                loss=event["loss"],
            )
        else:
            return event
    raise AssertionError


def _retrieved(workspace: Workspace, example: TrainingExample, top_k: int) -> tuple[TrainingExample, set[str]]:
    """The example with the passages that asking it would bring, and the documents they stand in."""
    found = workspace.corpus.search(example.question, top_k, options=workspace.retrieval)
    passages = tuple(Passage(p.text, p.title) for p in found)
    return replace(example, passages=passages), {p.document_id for p in found}


def _balanced(examples: list[TrainingExample], warnings: list[str]) -> list[TrainingExample]:
    """For the reader: an answer that none of the retrieved passages holds makes an example of abstention. Of those, so
    many that they do not outweigh the others."""
    answered, missed = [], []
    for example in examples:
        held = not example.answers or any(
            find_answer(p.text, a) >= 0 for p in example.passages for a in example.answers
        )
        if held:
            answered.append(example)
        elif example.passages:
            missed.append(replace(example, answers=(), passages=example.passages[:1], start=-1))
    if missed:
        kept = missed[: int(len(answered) * _UNANSWERABLE_SHARE)]
        warnings.append(
            f"For {len(missed)} of {len(examples)} questions no retrieved passage holds the answer; {len(kept)} of "
            "them teach the reader to abstain, the others are left out."
        )
        answered += kept
    if not any(example.answers for example in answered):
        raise TaskFailed("No retrieved passage holds the answer of any example. Ingest the documents the answers are "
                         "quoted from, or send the passages with the examples.")  # fmt: skip
    return answered


def _sweep(root: Path, keep: set[str]) -> None:
    """Delete folders of jobs that have ended, left by a crash."""
    if root.is_dir():
        for folder in root.iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
