"""What an adapter version was made of: recorded once, when a version is registered, and never changed.

Knows names, hashes and figures; knows no models and no jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Origin = Literal["trained", "imported", "uploaded"]


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from. What is not known of an uploaded one is None, or empty.

    Attributes:
        origin: ``trained`` here; ``imported`` with the record of another service's export, whose word is taken for it;
            or ``uploaded``, so that only its own files tell of it.
        method: how the weights were adapted, such as ``lora``.
        objective: what was learned, such as ``sft``.
        parameters: every hyper-parameter of the run, by name.
        dataset: the set's id, or ``feedback``.
        data_sha256: hash of the very examples that were trained on.
        documents: ids of the documents that the examples were taken from, as far as known.
        document_sha256: hash of each of these documents' content at that time, by id.
        base: the base model as adapters name it.
        base_fingerprint: hash of the base weights.
        code_version: version of the code that trained.
        examples: how many examples were trained on.
        steps: steps of the optimizer.
        trainable: trained parameters.
        seconds: how long training took, over all processes that worked on it.
        final_loss: mean loss of the last reported steps.
        job_id: the job that made it.
    """

    method: str
    objective: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    dataset: str | None = None
    data_sha256: str | None = None
    base: str | None = None
    base_fingerprint: str | None = None
    code_version: str | None = None
    examples: int | None = None
    steps: int | None = None
    trainable: int | None = None
    seconds: float | None = None
    final_loss: float | None = None
    job_id: str | None = None
    documents: tuple[str, ...] = ()
    document_sha256: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = "trained"

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Lineage:
        """The record that `dataclasses.asdict` and JSON made of one. Raises TypeError for other fields."""
        return cls(**{**stored, "documents": tuple(stored.get("documents", ()))})
