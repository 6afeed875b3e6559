"""Preferences move a model: the better answer gains on the worse one, liked ones gain and disliked ones lose."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path

import pytest
import torch

from adapters.causal.model import CausalModel, load_causal_model
from adapters.template import Passage
from adapters.training import TrainingExample, config_of
from adapters.training.language import encode_example
from adapters.training.preferences import PairedAnswers, RatedAnswers, log_probabilities
from adapters.training.trainer import train_adapter
from tests.adapters.tiny_llama import make_tiny_llama

PASSAGES = (Passage("Ms Tell leads. Mr Knot rests."),)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal_model(make_tiny_llama(tmp_path_factory.mktemp("llama")), dtype="float32")


def said(model: CausalModel, network: object, answer: str) -> float:
    """Log-probability of an answer to the one question."""
    row = encode_example(TrainingExample("Who leads?", (answer,), PASSAGES), model.tokenizer, None, 400, answer)
    with torch.no_grad():
        return float(log_probabilities(network, [row], model.pad_id))


def test_before_the_first_step_neither_answer_has_gained(llama: CausalModel) -> None:
    pairs = [TrainingExample("Who leads?", ("Ms Tell",), PASSAGES, rejected="Mr Knot")]
    set_up = (llama.model, pairs, llama.tokenizer, min(llama.eos_ids), llama.pad_id, 400, 0.1)
    assert float(PairedAnswers(*set_up).loss(llama.model, [0], random.Random(0))) == pytest.approx(math.log(2), 1e-4)
    assert float(RatedAnswers(*set_up).loss(llama.model, [0, 1], random.Random(0))) == pytest.approx(0.5, 1e-4)


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_pairs_make_the_better_answer_gain_on_the_worse(llama: CausalModel, method: str, tmp_path: Path) -> None:
    model = copy.deepcopy(llama.model)
    pairs = [TrainingExample("Who leads?", ("Ms Tell",), PASSAGES, rejected="Mr Knot")] * 4
    task = PairedAnswers(model, pairs, llama.tokenizer, None, llama.pad_id, 400, 0.5)
    given = {"method": method, "targets": "all", "epochs": 15, "batch_size": 4, "learning_rate": 5e-3}
    train_adapter(model, task, tmp_path, config_of(given, generates=True))
    before = said(llama, llama.model, "Ms Tell [1]") - said(llama, llama.model, "Mr Knot")
    after = said(llama, model.eval(), "Ms Tell [1]") - said(llama, model, "Mr Knot")
    assert after > before + 1


def test_ratings_make_liked_answers_gain_and_disliked_ones_lose(llama: CausalModel, tmp_path: Path) -> None:
    model = copy.deepcopy(llama.model)
    rated = [
        TrainingExample("Who leads?", ("Ms Tell",), PASSAGES, rating=1),
        TrainingExample("Who leads?", ("Mr Knot",), PASSAGES, rating=-1),
    ] * 3
    task = RatedAnswers(model, rated, llama.tokenizer, None, llama.pad_id, 400, 0.5)
    given = {"targets": "all", "epochs": 15, "batch_size": 6, "learning_rate": 5e-3}
    train_adapter(model, task, tmp_path, config_of(given, generates=True))
    gained, lost = (
        said(llama, model.eval(), answer) - said(llama, llama.model, answer)
        for answer in ("Ms Tell [1]", "Mr Knot [1]")
    )
    assert gained > lost + 1
