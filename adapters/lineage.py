"""What an adapter version was made of: recorded once, when a training run ends, and never changed.

Knows names, hashes and figures; knows no models and no jobs. An uploaded version has none: nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """Where a trained version comes from.

    Attributes:
        method: how the weights were adapted, such as ``lora``.
        objective: what was learned, such as ``sft``.
        parameters: every hyper-parameter of the run, by name.
        dataset: the set's id, or ``feedback``.
        data_sha256: hash of the very examples that were trained on.
        documents: ids of the documents that the examples were taken from, as far as known.
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
    objective: str
    parameters: Mapping[str, Any]
    seed: int
    dataset: str
    data_sha256: str
    base: str
    base_fingerprint: str
    code_version: str
    examples: int
    steps: int
    trainable: int
    seconds: float
    final_loss: float
    job_id: str
    documents: tuple[str, ...] = field(default=())

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Lineage:
        """The record that `dataclasses.asdict` and JSON made of one. Raises TypeError for other fields."""
        return cls(**{**stored, "documents": tuple(stored.get("documents", ()))})
