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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, cast

from adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterVersion, Engine, Lineage, Passage, check_name
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
from app.datasets import Dataset, DatasetSource, UnknownDataset
from app.feedback_data import feedback_set
from app.life.regate import gate_again
from app.limits import QuotaExceeded
from app.settings import Settings
from app.task_worker import Control, Interrupted, TaskFailed
from app.tasks import Task
from app.workspace import Workspace
from ingest import UnknownDocument

_log = logging.getLogger("lorebase.training")
_FOLDER, _EXAMPLES, _SOURCES = "training", "examples.jsonl", "sources.json"
_CHILDREN = 3  # processes that may break without a word before the job is given up
_TOP_K = 5
_UNANSWERABLE_SHARE = 0.25  # of the answered examples: so many without an answer at most come from failed retrieval


@dataclass(frozen=True)
class TrainingOrder:
    """What a client asks for.

    Attributes:
        dataset: id or name of a data set; None: what people said of answers.
        given: hyper-parameters that were set; the others follow from the method.
        top_k: passages to retrieve for an example that brings none.
        replaces: the version whose place the result is to take, when it passes the gate.
        metadata: what the client wants to find again with the job.
    """

    adapter: str
    objective: Objective
    dataset: str | None
    given: Mapping[str, Any]
    top_k: int
    replaces: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Trainings:
    """Starts trainings and does them.

    Args:
        engine: serves what is trained: it names the base and checks the result.
        wake: told the tenant of a task that was queued here.
    """

    def __init__(self, settings: Settings, engine: Engine, wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._engine = engine
        self._wake = wake

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
        examples, erased = _surviving(workspace, dataset)
        _, warnings = self._checked(workspace, examples, order.objective)
        request = {
            "adapter": order.adapter,
            "method": config.method,
            "objective": order.objective,
            "dataset": dataset.id,
            "top_k": order.top_k,
            "config": asdict(config),
            "base": self._engine.fingerprint,
            "metadata": dict(order.metadata),
        }
        if order.replaces is not None:
            request["replaces"] = order.replaces
        return workspace.tasks.add("train", request, "steps", self._settings.max_pending_trainings, erased + warnings)

    def again(self, workspace: Workspace, name: str, version: AdapterVersion) -> str:
        """Queue a training like the one that made a version, without what was erased since; the result goes through the
        gate. The job's id.

        Raises:
            InvalidTrainingData: it was not trained here, or see `start`.
            UnknownDataset, ModelUnavailable, TooManyTasks: see `start`.
        """
        lineage = version.lineage
        if lineage is None or lineage.origin != "trained" or lineage.dataset is None:
            raise InvalidTrainingData(f"{name}@{version.version} was not trained here, so it cannot be trained again.")
        known = config_to_dict(config_of({"method": lineage.method}, generates=self._engine.generates))
        given = {name: value for name, value in lineage.parameters.items() if name in known and name != "schedule"}
        objective = cast("Objective", lineage.objective)
        made_by = workspace.tasks.get(lineage.job_id or "")
        top_k = int(made_by.request["top_k"]) if made_by is not None else _TOP_K
        return self.start(workspace, TrainingOrder(name, objective, lineage.dataset, given, top_k, version.version))

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
            made = self._made(workspace, task, control, folder)
        except Interrupted:
            leave = control.goes_on
            raise
        finally:
            if not leave:
                shutil.rmtree(folder, ignore_errors=True)
        done: dict[str, Any] = {"adapter": task.request["adapter"], "version": made.version, "sha256": made.sha256}
        if (replaces := task.request.get("replaces")) is not None:
            done["evaluation_id"] = gate_again(workspace, done["adapter"], made, replaces)
            self._wake(workspace.tenant_id)
        return done

    def _made(self, workspace: Workspace, task: Task, control: Control, folder: Path) -> AdapterVersion:
        """The version that the task is to make, unless an earlier process has made it."""
        made = workspace.adapters.made_by(task.request["adapter"], task.job_id)
        if made is not None:
            return made
        if self._engine.fingerprint != task.request["base"]:
            raise TaskFailed(
                "The base model has changed since this training was asked for, and what was checked was checked for "
                "the other one. Start the training again."
            )
        self._prepare(workspace, task, control, folder)
        facts = self._train(workspace, task, control, folder)
        control.report("checking")
        lineage = self._lineage(task, facts, folder)
        config, weights = ((folder / "output" / name).read_bytes() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
        most = workspace.limits().adapter_versions
        return workspace.adapters.add(task.request["adapter"], config, weights, self._engine.check, lineage, most)

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
            stored, erased = _surviving(workspace, dataset)
        except UnknownDataset as error:
            raise TaskFailed("The data set was deleted before the training began. Send it again.") from error
        objective: Objective = task.request["objective"]
        examples, warnings = self._checked(workspace, stored, objective)
        warnings = erased + warnings
        named = {(source.document_id, source.sha256) for source in dataset.sources}
        gone = {(each.document_id, each.sha256) for each in workspace.erasures.among(named)}
        sources: dict[str, str | None] = dict(named - gone)
        owners: dict[str, str] = {}
        prepared: list[TrainingExample] = []
        for number, example in enumerate(examples):
            control.report("preparing", done=number, total=len(examples)) if number % 20 == 0 else control.check()
            if example.passages:
                prepared.append(example)
            else:
                with_passages, found = _retrieved(workspace, example, int(task.request["top_k"]))
                answering = [of for of, answers in found.items() if answers]
                if len(answering) == 1:  # what two documents say does not go with one of them
                    owners[example.question] = answering[0]
                for document_id in set(found) - set(sources):
                    sources[document_id] = _content_hash(workspace, document_id)
                prepared.append(with_passages)
        if not self._engine.generates:
            prepared = _balanced(prepared, warnings)
        if not any(example.passages for example in prepared):
            raise TaskFailed("The examples bring no passages and the tenant has no documents to find them in. Ingest "
                             "the documents first.")  # fmt: skip
        workspace.tasks.warn(task.job_id, warnings)
        workspace.datasets.note_sources(dataset.id, _owned(workspace.datasets.examples(dataset.id), owners, sources))
        _write(folder / _SOURCES, json.dumps(sources, sort_keys=True).encode())
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
        sources = json.loads((folder / _SOURCES).read_bytes())
        return Lineage(
            method=config.method,
            objective=task.request["objective"],
            parameters=config_to_dict(config),
            dataset=task.request["dataset"],
            code_version=installed_version("lorebase"),
            examples=len(load_examples((folder / _EXAMPLES).read_bytes())),
            documents=tuple(sources),
            document_sha256={document_id: sha256 for document_id, sha256 in sources.items() if sha256},
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


def _surviving(workspace: Workspace, dataset: Dataset) -> tuple[list[TrainingExample], list[str]]:
    """The examples of a set without those that came from documents erased since, and a warning where there are some.

    A document that was replaced takes only those along that bring its former words as their passages.
    """
    examples = workspace.datasets.examples(dataset.id)
    which = {(source.document_id, source.sha256): source.examples for source in dataset.sources}
    lost: set[int] = set()
    for each in workspace.erasures.among(list(which)):
        of = which.get((each.document_id, each.sha256), ())
        lost |= {n for n in of if each.cause == "deleted" or examples[n].passages}
    if not lost:
        return examples, []
    told = f"{len(lost)} examples were left out: the documents they came from were deleted or replaced."
    return [example for n, example in enumerate(examples) if n not in lost], [told]


def _retrieved(workspace: Workspace, example: TrainingExample, top_k: int) -> tuple[TrainingExample, dict[str, bool]]:
    """The example with the passages that asking it would bring; the documents they stand in, and whether the answer
    stands in a passage of theirs."""
    found = workspace.corpus.search(example.question, top_k, options=workspace.retrieval)
    passages = tuple(Passage(p.text, p.title) for p in found)
    documents = dict.fromkeys((p.document_id for p in found), False)
    for passage in found:
        documents[passage.document_id] |= any(find_answer(passage.text, a) >= 0 for a in example.answers)
    return replace(example, passages=passages), documents


def _owned(
    examples: list[TrainingExample], owners: Mapping[str, str], hashes: Mapping[str, str | None]
) -> list[DatasetSource]:
    """Which examples are answered from which documents, by what was found for their questions."""
    owned: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if (document_id := owners.get(example.question)) is not None:
            owned.setdefault(document_id, []).append(number)
    return [DatasetSource(of, sha256, tuple(which)) for of, which in owned.items() if (sha256 := hashes[of])]


def _content_hash(workspace: Workspace, document_id: str) -> str | None:
    try:
        return workspace.corpus.document(document_id).sha256
    except UnknownDocument:  # deleted meanwhile
        return None


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
