"""Preferences move a model: the better answer gains on the worse one, liked ones gain and disliked ones lose."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def moved(llama: CausalModel) -> Any:
    """The model a way off from the base."""
    model = copy.deepcopy(llama.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def alone(network: Any, prompt: list[int], said: list[int]) -> float:
    """Log-probability of an answer, one token after the other, in no batch and with no padding."""
    total = 0.0
    for n, token in enumerate(said):
        with torch.no_grad():
            scores = network(torch.tensor([prompt + said[:n]])).logits[0, -1].double()
        total += float(scores[token] - torch.logsumexp(scores, 0))
    return total


ASKED = [
    TrainingExample("Who leads?", ("Ms Tell",), PASSAGES, rejected="Mr Knot, I think"),
    TrainingExample("Who rests?", ("Mr Knot",), PASSAGES, rejected="no"),
    TrainingExample("Who leads the choir on Sundays?", ("Ms Tell",), PASSAGES, rejected="Nobody."),
]


def encoded(model: CausalModel, example: TrainingExample, answer: str | None = None) -> tuple[list[int], list[int]]:
    return encode_example(example, model.tokenizer, min(model.eos_ids), 400, answer)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_the_loss_of_pairs_is_the_published_formula(llama: CausalModel, moved: Any, weight: float) -> None:
    """Rafailov et al. 2023, equation 7; with a weight, the mean loss of the better answers' tokens besides."""
    beta, losses, likely, tokens = 0.3, [], 0.0, 0
    for example in ASKED:
        better, worse = encoded(llama, example), encoded(llama, example, example.rejected)
        gained = [alone(moved, *answer) - alone(llama.model, *answer) for answer in (better, worse)]
        losses.append(-math.log(sigmoid(beta * (gained[0] - gained[1]))))
        likely += alone(moved, *better)
        tokens += len(better[1])
    expected = sum(losses) / len(losses) - weight * likely / tokens
    task = PairedAnswers(llama.model, ASKED, llama.tokenizer, min(llama.eos_ids), llama.pad_id, 400, beta, weight)
    assert float(task.loss(moved, [0, 1, 2], random.Random(0))) == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_ratings_is_the_published_formula(llama: CausalModel, moved: Any) -> None:
    """Ethayarajh et al. 2024, equations 7 and 8; weights make liked and disliked ones count the same together."""
    beta = 0.3
    rated = [(encoded(llama, e, answer), answer is None) for e in ASKED for answer in (None, e.rejected)]
    rated.pop()  # one more is liked than disliked
    answers = [said for (_, said), _ in rated]
    elsewhere = [(prompt, other) for ((prompt, _), _), other in zip(rated, [*answers[1:], answers[0]], strict=True)]
    drift = [alone(moved, *row) - alone(llama.model, *row) for row in elsewhere]
    reference = max(0.0, sum(drift) / len(drift))
    expected = 0.0
    for row, liked in rated:
        gained = alone(moved, *row) - alone(llama.model, *row) - reference
        expected += (5 / 6 if liked else 5 / 4) * (1 - sigmoid(beta * (gained if liked else -gained))) / len(rated)
    shown = [*ASKED[:2], replace(ASKED[2], rejected="")]
    task = RatedAnswers(llama.model, shown, llama.tokenizer, min(llama.eos_ids), llama.pad_id, 400, beta)
    assert float(task.loss(moved, range(5), random.Random(0))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("objective", ["dpo", "dpo and sft", "kto"])
def test_losses_and_gradients_are_those_of_trl(
    llama: CausalModel, moved: Any, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trl is installed: docs/decisions/007-own-preference-losses.md."""
    pytest.importorskip("trl")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    common = {"output_dir": str(tmp_path), "beta": 0.3, "use_cpu": True, "bf16": False, "report_to": []}
    set_up = (llama.model, ASKED, llama.tokenizer, min(llama.eos_ids), llama.pad_id, 400, 0.3)
    models = {"model": copy.deepcopy(moved).requires_grad_(True), "ref_model": copy.deepcopy(llama.model)}
    rest: dict[str, Any] = {"processing_class": llama.tokenizer}
    if objective == "kto":
        task: Any = RatedAnswers(*set_up)
        config: Any = KTOConfig(**common)  # as many liked as disliked: all weights are 1
        rows = [{"prompt": "a", "completion": "b", "label": label} for label in (True, False)]
        trainer: Any = KTOTrainer(**models, args=config, train_dataset=Dataset.from_list(rows), **rest)
        names = ("input_ids", "attention_mask", "completion_mask")
        batch = dict(zip(names, padded(task._rows, llama.pad_id), strict=True))
        batch |= zip([f"KL_{name}" for name in names], padded(task._elsewhere, llama.pad_id), strict=True)
        batch["label"] = task._liked
    else:
        both = objective != "dpo"
        task = PairedAnswers(*set_up, 0.2 if both else 0.0)
        config = DPOConfig(
            **common, loss_type=["sigmoid", "sft"][: 1 + both], loss_weights=[1.0, 0.2] if both else None
        )
        rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
        trainer = DPOTrainer(**models, args=config, train_dataset=Dataset.from_list(rows), **rest)
        pairs = [{"prompt_ids": b[0], "chosen_ids": b[1], "rejected_ids": w[1]} for b, w in task._pairs]
        batch = trainer.data_collator(pairs)
    theirs = trainer.compute_loss(trainer.model.train(), batch)
    theirs.backward()
    model = copy.deepcopy(moved).requires_grad_(True)
    ours = task.loss(model, range(len(task)), random.Random(0))
    ours.backward()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    for mine, other in zip(model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-3, atol=1e-5 * float(other.grad.abs().max()))


def padded(rows: list[tuple[list[int], list[int]]], pad: int) -> list[torch.Tensor]:
    """Token ids, attention mask and answer mask of rows, each [rows, T]."""
    longest = max(len(prompt) + len(said) for prompt, said in rows)
    parts = []
    for prompt, said in rows:
        after = longest - len(prompt) - len(said)
        parts.append(
            (prompt + said + [pad] * after, [1] * (longest - after) + [0] * after,
             [0] * len(prompt) + [1] * len(said) + [0] * after)
        )  # fmt: skip
    return [torch.tensor(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_pairs_make_the_better_answer_gain_on_the_worse(llama: CausalModel, method: str, tmp_path: Path) -> None:
    model = copy.deepcopy(llama.model)
    pairs = [TrainingExample("Who leads?", ("Ms Tell",), PASSAGES, rejected="Mr Knot")] * 4
    task = PairedAnswers(model, pairs, llama.tokenizer, None, llama.pad_id, 400, 0.5)
    given = {"method": method, "epochs": 15, "batch_size": 4, "learning_rate": 5e-3}
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
