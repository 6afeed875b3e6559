"""Training sets, trainings, and the evaluations that judge what they made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.client.calls import Call, Download, Sending, given, nothing, path_of, shaped
from app.evaluation_schemas import EvaluationPage, EvaluationResponse, EvaluationStarted
from app.schemas import JobResponse
from app.training_schemas import DatasetPage, DatasetResponse, FeedbackSource, LossCurve


def upload_dataset(path: Path, *, name: str | None = None) -> Call[DatasetResponse]:
    """Store a training set in JSON Lines or SQuAD format. Raises OSError for a bad path."""
    return shaped(DatasetResponse, Sending("POST", "/datasets", form=given(name=name), files=[("file", path)]))


def datasets(*, offset: int = 0, limit: int = 100) -> Call[DatasetPage]:
    """One page of the tenant's training sets, newest first."""
    return shaped(DatasetPage, Sending("GET", "/datasets", given(offset=offset, limit=limit)))


def dataset(name: str) -> Call[DatasetResponse]:
    """A training set, by its id or name."""
    return shaped(DatasetResponse, Sending("GET", path_of("datasets", name)))


def dataset_examples(name: str) -> Download:
    """The examples of a training set as JSON Lines."""
    return Download(Sending("GET", path_of("datasets", name, "examples")))


def build_dataset(**settings: Any) -> Call[JobResponse]:
    """Begin to make a training set from the tenant's documents; ``settings`` are the fields of the request."""
    return shaped(JobResponse, Sending("POST", "/datasets/build", json=given(**settings)))


def judge_answers(dataset: str, judge: Mapping[str, str], **settings: Any) -> Call[JobResponse]:
    """Begin to make preference pairs of a set's questions; ``settings`` are further fields of the request."""
    body = {"dataset": dataset, "judge": dict(judge), **given(**settings)}
    return shaped(JobResponse, Sending("POST", "/datasets/judge", json=body))


def delete_dataset(name: str) -> Call[None]:
    """Forget a training set."""
    return nothing(Sending("DELETE", path_of("datasets", name)))


def train(adapter: str, dataset: str | FeedbackSource, **settings: Any) -> Call[JobResponse]:
    """Begin to train a new version of an adapter; ``settings`` are the other fields of the request."""
    source = dataset if isinstance(dataset, str) else dataset.model_dump()
    body = {"dataset": source, **given(**settings)}
    return shaped(JobResponse, Sending("POST", path_of("adapters", adapter, "train"), json=body))


def loss(job_id: str) -> Call[LossCurve]:
    """The loss curve of a training so far."""
    return shaped(LossCurve, Sending("GET", path_of("jobs", job_id, "loss")))


def gate(name: str, version: int, question_set: Mapping[str, Any]) -> Call[EvaluationStarted]:
    """Have a version promoted only if it is better on a question set, in the background."""
    sending = Sending("POST", path_of("adapters", name, "versions", version, "gate"), json=dict(question_set))
    return shaped(EvaluationStarted, sending)


def evaluate(question_set: Mapping[str, Any]) -> Call[EvaluationStarted]:
    """Have a question set asked with and without documents and an adapter, in the background."""
    return shaped(EvaluationStarted, Sending("POST", "/evaluate", json=dict(question_set)))


def evaluations(*, offset: int = 0, limit: int = 100) -> Call[EvaluationPage]:
    """One page of the tenant's evaluations and gates, newest first."""
    return shaped(EvaluationPage, Sending("GET", "/evaluations", given(offset=offset, limit=limit)))


def evaluation(evaluation_id: str) -> Call[EvaluationResponse]:
    """An evaluation; its figures when it has ended."""
    return shaped(EvaluationResponse, Sending("GET", path_of("evaluations", evaluation_id)))


def evaluation_report(evaluation_id: str, format: str) -> Call[str]:
    """The report of an evaluation that has succeeded, as ``html`` or ``markdown``."""
    sending = Sending("GET", path_of("evaluations", evaluation_id, "report"), {"format": format})
    return Call(sending, lambda response: response.text)


def delete_evaluation(evaluation_id: str) -> Call[None]:
    """Forget an evaluation that has ended."""
    return nothing(Sending("DELETE", path_of("evaluations", evaluation_id)))
