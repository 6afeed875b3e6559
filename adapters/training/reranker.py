"""How the embedded reranker is made: its task, its settings, and its calibration.

Each example is a question, the passage that answers it, and passages that retrieval found beside it; the loss is the
listwise softmax (ListNet's top-one form, Cao et al. 2007). Training begins with the reader's own adapter, which knows
already how a question meets a passage. Knows examples and folders; knows no corpus: `app` mines the examples.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, name_the_base
from adapters.base_model import READER_FOLDER, load_encoder, load_reader_base, reader_dtype
from adapters.errors import InvalidTrainingData
from adapters.reranker import CALIBRATION, EncodedPair, RankingCalibration, encode_windows, relevance, score_pairs
from adapters.training.settings import TrainingConfig
from adapters.training.trainer import TrainingProgress, prepare_reader, train_adapter

Scores = NDArray[np.float64]

_RIDGE = 1e-4  # so that the weights stay finite where the cases are told apart without a fault
NEGATIVES = 3  # beside the one that answers: a question costs four pairs
TRAINING_QUESTIONS = 8_000  # one pass: 2,000 steps
HELD_OUT_QUESTIONS = 240
RERANKER_CONFIG = TrainingConfig(
    targets="all",
    rank=32,
    alpha=64,
    learning_rate=3e-4,
    epochs=1.0,
    batch_size=4,
    max_length=256,
    warmup_steps=100,
    hidden_dropout=0.1,
    checkpoint_every=50,
)


@dataclass(frozen=True, slots=True)
class RankingExample:
    """A question and passages; the first one answers it, the others do not."""

    question: str
    passages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankingCase:
    """A held-out question with its passages as retrieval ranked them.

    Attributes:
        fused: score of each passage in the first stages, from 0 to 1.
        answers: whether each passage holds an answer.
    """

    question: str
    passages: tuple[str, ...]
    fused: tuple[float, ...]
    answers: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RankingFigures:
    """Mean reciprocal rank on the held-out questions: as retrieval ranked them, and reranked."""

    questions: int
    mrr_retrieved: float
    mrr_reranked: float


class PassageRanking:
    """The reranker's task: to score the passage that answers above its neighbours (`TrainingTask`)."""

    def __init__(self, examples: Sequence[RankingExample], tokenizer: Any, max_length: int) -> None:
        self._pad = tokenizer.pad_token_id
        self._groups: list[list[EncodedPair]] = [
            [encode_windows(tokenizer, example.question, text, max_length)[0] for text in example.passages]
            for example in examples
        ]

    def __len__(self) -> int:
        return len(self._groups)

    def length(self, index: int) -> int:
        return max(len(pair.ids) for pair in self._groups[index])

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        groups = [self._groups[i] for i in batch]
        scores = relevance(model, [pair for group in groups for pair in group], self._pad)  # [sum of group sizes]
        each = torch.split(scores, [len(group) for group in groups])
        return torch.stack([-F.log_softmax(group, dim=0)[0] for group in each]).mean()


def train_reranker(
    examples: Sequence[RankingExample],
    held_out: Sequence[RankingCase],
    output: Path,
    config: TrainingConfig = RERANKER_CONFIG,
    *,
    start: Path | None = READER_FOLDER,
    report: Callable[[TrainingProgress], None] = lambda _: None,
) -> RankingFigures:
    """Train the reranker, calibrate it on the held-out cases, and write both to ``output``.

    An interrupted run goes on from its last checkpoint when called again with the same arguments.

    Args:
        start: the adapter to begin with; its rank must be the configuration's.

    Raises:
        InvalidTrainingData: no example has a passage beside the one that answers, or no held-out case has both kinds;
            or see `train_adapter`.
    """
    if not any(len(example.passages) > 1 for example in examples):
        raise InvalidTrainingData("No question has passages to be told apart: nothing can be learned from it.")
    if not any(any(case.answers) and not all(case.answers) for case in held_out):
        raise InvalidTrainingData("No held-out question has passages of both kinds: the scores cannot be calibrated.")
    folder = output / "training"
    if not (folder / ADAPTER_WEIGHTS).is_file():
        base = load_encoder(dtype=reader_dtype("auto"), attention="eager")  # its backward is the faster one on CPUs
        task = PassageRanking(examples, base.tokenizer, config.max_length)
        prepare_reader(base.model, config)
        train_adapter(base.model, task, folder, config, start=start, report=report)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(folder / name, output / name)
    name_the_base(output, load_encoder().adapter_base_name)
    return calibrate_reranker(output, held_out)


def calibrate_reranker(folder: Path, held_out: Sequence[RankingCase]) -> RankingFigures:
    """Fit how a score, with the fused score beside it, becomes log-odds; write ``calibration.json``."""
    base = load_reader_base(folder)
    scores = [np.array(score_pairs(base, case.question, case.passages)) for case in held_out]
    calibration = fit_calibration(scores, held_out)
    temporary = folder / (CALIBRATION + ".tmp")
    temporary.write_text(json.dumps(asdict(calibration)) + "\n")
    os.replace(temporary, folder / CALIBRATION)
    asked = [(case, own) for case, own in zip(held_out, scores, strict=True) if any(case.answers)]
    reranked = [
        calibration.scale * own + calibration.fused_weight * np.array(case.fused)  # [passages]
        for case, own in asked
    ]
    return RankingFigures(
        questions=len(asked),
        mrr_retrieved=_mrr([(np.array(case.fused), case.answers) for case, _ in asked]),
        mrr_reranked=_mrr([(order, case.answers) for order, (case, _) in zip(reranked, asked, strict=True)]),
    )


def fit_calibration(scores: Sequence[Scores], cases: Sequence[RankingCase]) -> RankingCalibration:
    """How much the fused score counts beside the reranker's, and what log-odds both make together.

    The weights are those under which the passages that answer are likeliest to stand first within their own case
    (conditional logit, McFadden 1974); of all cases together, a logistic regression makes log-odds of what results
    (Platt 1999). Fitted in one step on all passages, fused scores of different questions would be compared.

    Args:
        scores: for each case, float ``[passages]``.
    """
    features = [np.column_stack([own, case.fused]) for own, case in zip(scores, cases, strict=True)]  # [passages, 2]
    answers = [np.array(case.answers) for case in cases]
    telling = [(x, y) for x, y in zip(features, answers, strict=True) if y.any() and not y.all()]

    def surprise(weights: Scores) -> float:
        each = [logsumexp(x @ weights) - logsumexp((x @ weights)[y]) for x, y in telling]
        return float(np.mean(each) + _RIDGE * weights @ weights)

    weights = minimize(surprise, np.ones(2), bounds=[(0, None), (0, None)]).x  # [2], of own and fused score
    if weights[0] <= 0:  # a reranker worse than chance
        return RankingCalibration()
    combined = np.concatenate(features) @ weights  # [n]
    odds = LogisticRegression(C=100.0).fit(combined[:, None], np.concatenate(answers))
    slope = float(odds.coef_[0, 0])
    if slope <= 0:  # its order must not be turned round by the fit
        return RankingCalibration()
    own, fused = (float(weight) * slope for weight in weights)
    return RankingCalibration(own, float(odds.intercept_[0]), fused)


def _mrr(ranked: Sequence[tuple[Scores, Sequence[bool]]]) -> float:
    total = 0.0
    for scores, answers in ranked:
        order = np.argsort(-scores, kind="stable")
        total += 1 / (1 + next(rank for rank, index in enumerate(order) if answers[index]))
    return total / max(1, len(ranked))
