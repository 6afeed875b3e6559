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

from adapters.adapter_files import name_the_base
from adapters.base_model import load_encoder, reader_dtype
from adapters.engine import Done, Event, Failed, PassageRead, Row
from adapters.reader import ReaderEngine
from adapters.spans import Calibration
from adapters.squad import Question, f1_score
from adapters.template import Passage
from adapters.training.calibration import calibrate
from adapters.training.examples import lookalike_paragraphs
from adapters.training.settings import TrainingConfig
from adapters.training.trainer import TrainingProgress, make_alterer, train_reader_adapter

READER_CONFIG = TrainingConfig(
    targets="all",
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
LENGTH_PENALTY = 0.1  # of 0, 0.1 and 0.2 the one with the best F1 on the held-out paragraphs
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
    base = load_encoder(dtype=reader_dtype("auto"), attention="eager")  # its backward is the faster one on CPUs
    train_reader_adapter(base, [q for q in questions if not is_held_out(q)], output, config, report=report)
    name_the_base(output, base.adapter_base_name)
    return calibrate_reader(output, [q for q in questions if is_held_out(q)], config.seed)


def calibrate_reader(reader: Path, held_out: Sequence[Question], seed: int = 0) -> Calibration:
    """Calibrate a reader on questions it has not seen, and write ``calibration.json`` beside its weights.

    Each question is asked three times: as it stands, altered by rule, and of a look-alike paragraph.
    """
    rng = random.Random(seed)
    alterer = make_alterer(load_encoder(), held_out)
    cases: list[tuple[str, Question, bool]] = []
    for question, lookalike in zip(held_out, lookalike_paragraphs(held_out, 1), strict=True):
        cases.append((question.question, question, True))
        altered = alterer.alter(question.question, question.context, rng)
        cases += [(altered, question, False)] if altered else []
        cases += [(question.question, replace(question, context=context), False) for context in lookalike]
    _write(reader, replace(_UNCALIBRATED, length_penalty=LENGTH_PENALTY))
    scores, overlaps = _read_all(reader, cases)
    calibration = calibrate(scores, overlaps, [answerable for _, _, answerable in cases], LENGTH_PENALTY)
    _write(reader, calibration)
    return calibration


def _read_all(reader: Path, cases: Sequence[tuple[str, Question, bool]]) -> tuple[list[float], list[float]]:
    engine = ReaderEngine(reader, max_waiting=2 * len(cases))  # one share key has half
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
