"""Storing a training set that a client sends: parsed, checked, tied to the tenant's documents. Knows no HTTP."""

from __future__ import annotations

from adapters.errors import InvalidTrainingData
from adapters.training import Objective, TrainingExample, check_examples, parse_examples
from app.dataset_sources import sources_of
from app.datasets import Dataset
from app.workspace import Workspace


def store_upload(
    workspace: Workspace, file: str, content: bytes, name: str | None, *, generates: bool
) -> tuple[Dataset, bool]:
    """Store a set; the set, and whether it is new. A set that no training would take is stored with a warning.

    Args:
        file: the name it came under, told in refusals.
        generates: the model is a language model.

    Raises:
        InvalidTrainingData: it is no set; the message says line and field.
        InvalidDatasetName, DatasetExists, TooManyDatasets: see `DatasetStore.add`.
    """
    found = parse_examples(file, content)
    warnings = _warnings(workspace, found, generates)
    return workspace.datasets.add(found, name, "upload", warnings, sources_of(workspace.corpus, found), file[:200])


def _warnings(workspace: Workspace, found: list[TrainingExample], generates: bool) -> list[str]:
    """What a training on the set would say; where it would refuse the set, that. Storing it is no harm."""
    objective: Objective = "dpo" if any(e.rejected for e in found) else "kto" if any(e.rating for e in found) else "sft"
    try:
        return check_examples(found, objective, quotes=not generates, english=workspace.english_only)[1]
    except InvalidTrainingData as error:
        return [f"A training on this set is refused: {error}"]
