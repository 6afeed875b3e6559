"""What people said of answers, as a training set: a correction beats what was answered, a thumb rates it.

Knows kept answers and training examples; knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapters import Passage
from adapters.errors import InvalidTrainingData
from adapters.training import TrainingExample
from app.dataset_sources import sources_of
from app.datasets import Dataset
from app.life.answers import RatedAnswer
from app.workspace import Workspace


def feedback_set(workspace: Workspace) -> Dataset:
    """All feedback of a tenant so far, stored as a set that no longer changes.

    Raises:
        InvalidTrainingData: there is none that can be learned from.
        TooManyDatasets: no room for one more set.
    """
    examples = feedback_examples(workspace.answers.export())
    if not examples:
        raise InvalidTrainingData(
            "There is no feedback with its texts to train on. Rate answers or correct them (POST /feedback), with "
            "answers kept (PUT /policy), and try again."
        )
    return workspace.datasets.add(examples, None, "feedback", [], sources_of(workspace.corpus, examples))[0]


def feedback_examples(rated: Iterable[RatedAnswer]) -> list[TrainingExample]:
    """Each piece of feedback as an example; one whose texts are not kept any more is passed over."""
    examples = []
    for each in rated:
        said, question = each.answer or "", each.rewritten_question or each.question
        if not question or not (each.correction or said):
            continue
        ordered = sorted(each.passages, key=lambda p: not p.cited)  # what the answer rests on comes first
        passages = tuple(Passage(p.text, p.title) for p in ordered)
        document = next((p.document_id for p in ordered if p.document_id), "") or ""
        if each.correction:
            rejected = said if said and said != each.correction else None
            examples.append(TrainingExample(question, (each.correction,), passages, document, rejected, 1))
        else:
            examples.append(TrainingExample(question, (said,), passages, document, rating=each.rating or 0))
    return examples
