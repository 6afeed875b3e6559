"""One training run from examples to an adapter's folder, on the reader or on a language model.

What `lorebase train` does offline and what the child process of a job does. Knows models, examples and folders; knows
no service and no processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter_files import name_the_base
from adapters.base_model import load_reader_base, reader_dtype
from adapters.causal.model import load_causal_model
from adapters.errors import InvalidTrainingData
from adapters.squad import Answer, Question
from adapters.training.data import Objective, TrainingExample, find_answer
from adapters.training.language import AnswerWriting
from adapters.training.preferences import PairedAnswers, RatedAnswers
from adapters.training.settings import TrainingConfig
from adapters.training.trainer import Trained, TrainingProgress, TrainingTask, train_adapter, train_reader_adapter

BUILTIN = "builtin"
_DISTRACTORS = 1  # passages beside the one that answers, of those an example brings
Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class Base:
    """The model a run starts from, as an adapter names it and as its hash tells it."""

    name: str
    fingerprint: str


def train(
    examples: Sequence[TrainingExample],
    output: Path,
    config: TrainingConfig,
    *,
    model: str = BUILTIN,
    dtype: str = "auto",
    objective: Objective = "sft",
    expected_base: str | None = None,
    report: Report = lambda _: None,
    report_every: int = 25,
    checkpoint_seconds: float = math.inf,
    loaded: Callable[[], None] = lambda: None,
) -> tuple[Trained, Base]:
    """Train an adapter on examples with passages and write it to ``output``, ready to be registered.

    Args:
        model: ``builtin`` (the reader), or a language model's folder or hub id.
        expected_base: hash of the base the run was asked for.
        loaded: called when the base is in memory.

    Raises:
        InvalidTrainingData: the base is another one by now, or the examples or settings do not fit it.
        ModelUnavailable: the base cannot be loaded.
    """
    tell = {"report": report, "report_every": report_every, "checkpoint_seconds": checkpoint_seconds}
    if model == BUILTIN:
        if objective != "sft":
            raise InvalidTrainingData(
                f"{objective} compares texts that a model wrote; the reader writes none. Use sft."
            )
        reader = load_reader_base(
            dtype=reader_dtype(dtype), attention="eager"
        )  # its backward is the faster one on CPUs
        base = Base(reader.adapter_base_name, reader.fingerprint)
        _check_base(base, expected_base)
        loaded()
        trained = train_reader_adapter(reader, reading_questions(examples), output, config, **tell)  # type: ignore[arg-type]
    else:
        causal = load_causal_model(model, dtype=dtype)
        base = Base(causal.name, causal.fingerprint)
        _check_base(base, expected_base)
        loaded()
        longest = min(config.max_length, causal.context - config.virtual_tokens)
        eos = min(causal.eos_ids, default=None)
        set_up = (examples, causal.tokenizer, eos, causal.pad_id, longest)
        task: TrainingTask
        if objective == "sft":
            task = AnswerWriting(*set_up)
        elif objective == "dpo":
            task = PairedAnswers(causal.model, *set_up, config.beta, config.sft_weight)
        else:
            task = RatedAnswers(causal.model, *set_up, config.beta)
        trained = train_adapter(causal.model, task, output, config, **tell)  # type: ignore[arg-type]
    name_the_base(output, base.name)
    return trained, base


def reading_questions(examples: Sequence[TrainingExample]) -> list[Question]:
    """Examples as pairs of a question and one passage, which is what the reader reads.

    The passage that holds the answer is paired with it; of the others, so many as distractors, with no answer.
    """
    pairs: list[Question] = []
    for number, example in enumerate(examples):
        others = 0
        answered = False
        for n, passage in enumerate(example.passages):
            answers = _answers_in(passage.text, example, first=n == 0)
            if not answers and example.answers:
                others += 1
                if others > _DISTRACTORS:
                    continue
            if answers and answered:
                continue
            answered = answered or bool(answers)
            pairs.append(Question(f"{number}/{n}", example.question, passage.text, example.document, answers))
            if not example.answers:
                break
    return pairs


def _answers_in(text: str, example: TrainingExample, *, first: bool) -> tuple[Answer, ...]:
    found = []
    for n, answer in enumerate(example.answers):
        start = example.start if first and n == 0 and example.start >= 0 else find_answer(text, answer)
        if start >= 0:
            found.append(Answer(text[start : start + len(answer)], start))
    return tuple(found)


def _check_base(base: Base, expected: str | None) -> None:
    if expected is not None and base.fingerprint != expected:
        raise InvalidTrainingData(
            "The base model has changed since this training was asked for: its checkpoint does not fit the new one. "
            "Start the training again."
        )


def facts_of(config: TrainingConfig, trained: Trained, base: Base) -> dict[str, Any]:
    """What a run tells of itself, for the lineage of the version it makes."""
    return {
        "base": base.name,
        "base_fingerprint": base.fingerprint,
        "steps": trained.steps,
        "trainable": trained.trainable,
        "seconds": round(trained.seconds, 2),
        "final_loss": round(trained.loss, 5),
        "seed": config.seed,
    }
