"""How the embedded reader itself is made: which data is held out, which settings, and its calibration.

`train_reader` is what `lorebase train reader` runs. Knows question sets and folders; knows no service.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from adapters.base_model import ADAPTER_CONFIG, load_encoder
from adapters.engine import Done, Event, Failed, Passage, PassageRead, Row
from adapters.reader import ReaderEngine
from adapters.spans import Calibration
from adapters.squad import Question, f1_score
from adapters.training.calibration import calibrate
from adapters.training.examples import alter_question
from adapters.training.trainer import TrainingConfig, TrainingProgress, train_reader_adapter

READER_CONFIG = TrainingConfig(
    rank=32,
    alpha=64,
    learning_rate=1e-3,
    epochs=3.621,
    schedule=((0.0, 1.0), (0.5167, 0.2516), (0.5168, 0.2657), (0.55, 0.2464), (0.5833, 0.2156), (1.0, 0.0)),
    batch_size=16,
    warmup_steps=100,
    lookalike_share=0.10,
    altered_share=0.08,
    hidden_dropout=0.1,
    checkpoint_every=100,
)
LENGTH_PENALTIES = (0.0, 0.1, 0.2)
_UNCALIBRATED = Calibration(1.0, 0.0, 0.0)


def is_held_out(question: Question) -> bool:
    """Whether a question's paragraph, one in 25 chosen by its hash, is kept for calibration."""
    return int(hashlib.sha256(question.context.encode()).hexdigest(), 16) % 25 == 0


def train_reader(
    questions: Sequence[Question],
    output: Path,
    config: TrainingConfig = READER_CONFIG,
    *,
    report: Callable[[TrainingProgress], None] = lambda _: None,
) -> Calibration:
    """Train the reader on a question set, calibrate it on the held-out part, and write both to ``output``.

    Raises:
        InvalidTrainingData: see `train_reader_adapter`.
    """
    base = load_encoder(dtype=torch.bfloat16, attention="eager")  # on CPUs its backward is the faster one
    train_reader_adapter(base, [q for q in questions if not is_held_out(q)], output, config, report=report)
    name_the_base(output, base.adapter_base_name)
    return calibrate_reader(output, [q for q in questions if is_held_out(q)], config.seed)


def name_the_base(folder: Path, name: str) -> None:
    """Say in an adapter's config which base it was trained on."""
    path = folder / ADAPTER_CONFIG
    config = {**json.loads(path.read_text()), "base_model_name_or_path": name}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def calibrate_reader(reader: Path, held_out: Sequence[Question], seed: int = 0) -> Calibration:
    """Calibrate a reader on questions of its own kind, and write ``calibration.json`` beside its weights."""
    rng = random.Random(seed)
    cases: list[tuple[str, Question, bool]] = []
    contexts = sorted({q.context for q in held_out})
    for question in held_out:
        cases.append((question.question, question, True))
        if rng.random() < 0.5:
            altered = alter_question(question.question, question.context, [], rng)
            cases += [(altered, question, False)] if altered else []
        else:
            other = Question(question.id, question.question, rng.choice(contexts), question.article, ())
            cases += [(question.question, other, False)] if other.context != question.context else []
    best: tuple[float, Calibration] | None = None
    for penalty in LENGTH_PENALTIES:
        _write(reader, replace(_UNCALIBRATED, length_penalty=penalty))
        scores, overlaps = _read_all(reader, cases)
        if best is None or sum(overlaps) > best[0]:
            calibration = calibrate(scores, overlaps, [answerable for _, _, answerable in cases], penalty)
            best = (sum(overlaps), calibration)
    assert best is not None  # noqa: S101
    _write(reader, best[1])
    return best[1]


def _read_all(reader: Path, cases: Sequence[tuple[str, Question, bool]]) -> tuple[list[float], list[float]]:
    engine = ReaderEngine(reader, max_waiting=len(cases))
    engine.load()
    try:
        events: list[queue.SimpleQueue[Event]] = []
        for text, question, _ in cases:
            events.append(queue.SimpleQueue())
            engine.submit(Row(text, (Passage(question.context),), min_confidence=0), events[-1].put)
        scores, overlaps = [], []
        for (_, question, answerable), told in zip(cases, events, strict=True):
            while not isinstance(event := told.get(), Done):
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, PassageRead):
                    scores.append(event.score)
            overlaps.append(f1_score(event.answer, [a.text for a in question.answers]) if answerable else 0.0)
        return scores, overlaps
    finally:
        engine.close()


def _write(reader: Path, calibration: Calibration) -> None:
    temporary = reader / "calibration.json.tmp"
    temporary.write_text(json.dumps(asdict(calibration)) + "\n")
    os.replace(temporary, reader / "calibration.json")
