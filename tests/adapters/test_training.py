"""Training: what examples are drawn, that an adapter learns, that an interrupted run goes on unharmed."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters import ReaderEngine
from adapters.base_model import load_encoder, load_reader_base
from adapters.errors import InvalidTrainingData
from adapters.squad import Answer, Question, exact_match, f1_score, read_squad
from adapters.template import Passage
from adapters.training import TrainingConfig, TrainingExample, TrainingProgress, config_of, train
from adapters.training.alterations import QuestionAlterer, word_neighbours
from adapters.training.calibration import calibrate
from adapters.training.examples import ExampleSource
from adapters.training.trainer import learning_rate_share, train_reader_adapter

CITIES = ("Aldmoor", "Brinfell", "Carrowick", "Dunhaven", "Eastmere", "Farrowby", "Glenrath", "Hollowell")


def questions() -> list[Question]:
    """A small domain: every town has a mayor and a bridge; asked for one, the other stands nearby."""
    found = []
    for number, city in enumerate(CITIES):
        context = f"{city} has a bridge of {120 + number} metres. The mayor of {city} is called Ms Number{number}."
        for name, text in (
            ("How long is the bridge of {}?", f"{120 + number} metres"),
            ("Who leads {}?", f"Number{number}"),
        ):
            answer = Answer(text, context.index(text))
            found.append(Question(f"{city}{name}", name.format(city), context, city, (answer,)))
    return found


def draws(**shares: float) -> Counter[str]:
    base = load_encoder()
    source = ExampleSource(questions(), base.tokenizer, **shares)  # type: ignore[arg-type]
    rng = random.Random(0)
    counted: Counter[str] = Counter()
    for _ in range(20):
        for index in range(len(source)):
            feature = source.draw(index, rng)
            counted["answered" if feature.start else "unanswerable"] += 1
            if feature.start:
                said = base.tokenizer.decode(feature.input_ids[feature.start : feature.end + 1])
                assert said.lower() == questions()[index].answers[0].text.lower()
    return counted


@pytest.mark.model
def test_without_shares_every_draw_points_at_its_answer() -> None:
    assert draws()["unanswerable"] == 0


@pytest.mark.model
def test_the_asked_share_of_draws_is_unanswerable() -> None:
    counted = draws(lookalike_share=0.5)
    assert 0.35 < counted["unanswerable"] / counted.total() < 0.65


@pytest.mark.model
def test_a_long_paragraph_is_windowed_around_its_answer() -> None:
    base = load_encoder()
    context = "Words without end. " * 300 + "The key lies under the third stone." + " More words." * 300
    question = Question(
        "q", "Where is the key?", context, "a", (Answer("under the third stone", context.index("under")),)
    )
    source = ExampleSource([question], base.tokenizer, max_length=128)
    for seed in range(20):
        feature = source.draw(0, random.Random(seed))
        assert len(feature.input_ids) <= 128
        assert base.tokenizer.decode(feature.input_ids[feature.start : feature.end + 1]) == "under the third stone"


def test_an_altered_question_is_another_question() -> None:
    question, context = "When did Anna Brandt build the first tower in 1874?", "Anna Brandt built the tower in 1874."
    alterer = QuestionAlterer(["Where did Ida Holm live?", question], {"build": ["destroy"], "tower": ["bridge"]})
    altered = {alterer.alter(question, context, random.Random(seed)) for seed in range(60)}
    assert question not in altered
    assert "When did Anna Brandt build the first bridge in 1874?" in altered
    assert "When did Ida Holm build the first tower in 1874?" in altered
    assert "When did Anna Brandt build the last tower in 1874?" in altered
    assert "When did not Anna Brandt build the first tower in 1874?" in altered
    assert any("1874" not in text for text in altered if text)


def test_a_question_no_rule_applies_to_is_not_altered() -> None:
    assert QuestionAlterer([]).alter("where", "there", random.Random(0)) is None


@pytest.mark.model
def test_a_words_neighbours_are_other_words_of_the_questions_used_like_it() -> None:
    base = load_encoder()
    questions = ["river lake bridge tower castle mountain village doctor teacher painter writer lawyer"]
    embeddings = base.model.get_input_embeddings().weight.detach().numpy()
    nearest = word_neighbours(questions, base.tokenizer, embeddings, skip=0, count=3)
    assert "lake" in nearest["river"]
    assert "writer" in nearest["painter"]
    assert "river" not in nearest["river"]


def test_the_learning_rate_warms_up_and_follows_the_schedule() -> None:
    config = TrainingConfig(warmup_steps=10, schedule=((0.0, 1.0), (0.5, 0.2), (1.0, 0.0)))
    shares = [learning_rate_share(step, 1000, config) for step in (0, 9, 500, 999)]
    assert shares == pytest.approx([0.1, 0.9856, 0.2, 0.0004], abs=1e-3)


def test_calibration_gives_likely_answers_more_than_half_and_abstains_between_the_two_kinds() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(6, 2, 400), rng.normal(-4, 2, 400)])
    right = [1.0] * 400 + [0.0] * 400
    calibration = calibrate(scores.tolist(), right, [True] * 400 + [False] * 400)
    assert calibration.confidence(6) > 0.9
    assert calibration.confidence(-4) < 0.1
    assert calibration.confidence(-3) < calibration.min_confidence < calibration.confidence(5)


@pytest.mark.model
def test_a_domain_adapter_learns_its_domain_and_serves(tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    examples = [
        TrainingExample(q.question, (q.answers[0].text,), (Passage(q.context),), q.article) for q in questions()
    ]
    config = config_of({"epochs": 12, "targets": "all", "lookalike_share": 0.0}, generates=False)
    trained, base = train(examples, tmp_path / "towns", config, report=told.append)
    assert told[-1].step == told[-1].steps == trained.steps
    assert told[-1].loss < 0.7 * told[0].loss
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    engine = ReaderEngine()
    engine.load()
    try:
        assert engine.check(trained.folder).rank == 8
        assert engine.fingerprint == base.fingerprint
    finally:
        engine.close()


@pytest.mark.model
def test_an_interrupted_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 5:
            raise Interrupted

    config = TrainingConfig(rank=2, epochs=4, batch_size=8, hidden_dropout=0.0, checkpoint_every=2, strength=0.5)
    whole = train_reader_adapter(load_reader_base(), questions(), tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        train_reader_adapter(
            load_reader_base(), questions(), tmp_path / "parts", config, report=interrupt, report_every=1
        )
    with pytest.raises(InvalidTrainingData, match="other settings"):
        train_reader_adapter(load_reader_base(), questions(), tmp_path / "parts", replace(config, seed=1))
    parts = train_reader_adapter(load_reader_base(), questions(), tmp_path / "parts", config)
    one, other = (load_file(run.folder / "adapter_model.safetensors") for run in (whole, parts))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.model
def test_half_the_strength_is_half_the_way_in_the_weights(tmp_path: Path) -> None:
    config = TrainingConfig(rank=2, epochs=1, batch_size=8, hidden_dropout=0.0)
    base = {f"qa_outputs.{n}": p.detach().clone() for n, p in load_reader_base().model.qa_outputs.named_parameters()}
    runs = [
        train_reader_adapter(load_reader_base(), questions(), tmp_path / str(n), replace(config, strength=strength))
        for n, strength in enumerate((1.0, 0.5))
    ]
    whole, half = (load_file(run.folder / "adapter_model.safetensors") for run in runs)
    for name, tensor in whole.items():
        if "qa_outputs" in name:
            began = base[name.removeprefix("base_model.model.")]
            assert torch.allclose(half[name], (began + tensor) / 2, atol=1e-6)
        else:
            assert torch.allclose(half[name], tensor if "lora_A" in name else tensor / 2, atol=1e-6)


def test_a_set_without_answers_cannot_be_learned_from(tmp_path: Path) -> None:
    unanswered = [replace(question, answers=()) for question in questions()]
    with pytest.raises(InvalidTrainingData, match="no answered question"):
        train_reader_adapter(load_encoder(), unanswered, tmp_path / "x", TrainingConfig())


def squad_file(folder: Path, text: str) -> Path:
    path = folder / "set.json"
    path.write_text(text)
    return path


def test_a_question_set_is_read_with_answers_and_without(tmp_path: Path) -> None:
    qas = [
        {"id": 1, "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"id": 2, "question": "Why?", "answers": [], "is_impossible": True},
    ]
    data = {"data": [{"title": "T", "paragraphs": [{"context": "Ann came.", "qas": qas}]}]}
    first, second = read_squad(squad_file(tmp_path, json.dumps(data)))
    assert first.answers == (Answer("Ann", 0),)
    assert (second.article, second.answerable) == ("T", False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": [{"paragraphs": [{}]}]}', '{"data": 5}'])
def test_a_file_that_is_no_question_set_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidTrainingData, match=r"set\.json"):
        read_squad(squad_file(tmp_path, text))


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1, 1),
        ("in Paris", ["Paris"], 0, 2 / 3),
        ("Rome", ["Paris", "London"], 0, 0),
        ("", [], 1, 1),
        ("Rome", [], 0, 0),
        ("", ["Paris"], 0, 0),
    ],
)
def test_answers_are_scored_as_squad_scores_them(prediction: str, golds: list[str], em: float, f1: float) -> None:
    assert exact_match(prediction, golds) == em
    assert f1_score(prediction, golds) == pytest.approx(f1)
