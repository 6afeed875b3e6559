"""The reranker learns to put the passage that answers first, goes on after an interruption, says what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.base_model import load_reader_base
from adapters.errors import InvalidTrainingData, ModelUnavailable
from adapters.reranker import EmbeddedReranker, encode_windows, read_calibration, score_pairs
from adapters.training import RankingCase, RankingExample, train_reranker
from adapters.training.reranker import RERANKER_CONFIG, fit_calibration

CITIES = ("Aldmoor", "Brinfell", "Carrowick", "Dunhaven", "Eastmere", "Farrowby")
SMALL = replace(RERANKER_CONFIG, epochs=2, batch_size=2, checkpoint_every=1)


def example(number: int) -> RankingExample:
    """Who leads a town: one passage says it, another of the same town does not, a third speaks of another town."""
    city, other = CITIES[number], CITIES[number - 1]
    return RankingExample(
        f"Who leads {city}?",
        (
            f"{city} has a mayor: Ms Number{number} leads the town.",
            f"{city} has a bridge of {120 + number} metres and a market.",
            f"{other} has a mayor: Ms Number{number + 9} leads the town.",
        ),
    )


def case(number: int) -> RankingCase:
    one = example(number)
    return RankingCase(one.question, one.passages, (0.4, 0.5, 0.3), (True, False, False))


@pytest.mark.model
def test_a_trained_reranker_puts_the_passage_that_answers_first(tmp_path: Path) -> None:
    examples, held_out = [example(n) for n in range(4)], [case(n) for n in (4, 5)]

    class Interrupted(Exception):
        pass

    def interrupt(_: object) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        train_reranker(examples, held_out, tmp_path, SMALL, report=interrupt)
    figures = train_reranker(examples, held_out, tmp_path, SMALL)
    assert figures.questions == 2
    assert figures.mrr_retrieved == 0.5
    assert figures.mrr_reranked == 1.0
    reranker = EmbeddedReranker(tmp_path, "float32")
    scores = reranker.score(held_out[0].question, held_out[0].passages)
    assert max(scores) == scores[0]
    assert reranker.score("Who?", []) == []
    assert read_calibration(tmp_path).fused_weight == reranker.fused_weight


@pytest.mark.model
def test_a_pair_scores_the_same_alone_and_among_others() -> None:
    base = load_reader_base()
    texts = [*example(1).passages, "A much longer text. " * 30, ""]
    together = score_pairs(base, "Who leads Brinfell?", texts)
    assert np.allclose(together, [score_pairs(base, "Who leads Brinfell?", [text])[0] for text in texts], atol=1e-4)


@pytest.mark.model
def test_a_long_text_counts_by_its_best_window() -> None:
    base = load_reader_base()
    text = "Words about nothing at all. " * 200 + "The mayor of Aldmoor is Ms Holm." + " More idle words." * 200
    windows = encode_windows(base.tokenizer, "Who is the mayor of Aldmoor?", text)
    assert len(windows) > 3
    assert all(len(window.ids) <= 384 for window in windows)
    idle = "Words about nothing at all. " * 200
    long, without = score_pairs(base, "Who is the mayor of Aldmoor?", [text, idle])
    assert long > without


def test_missing_weights_are_said_and_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="lorebase train reranker"):
        EmbeddedReranker(tmp_path)


def test_nothing_is_learned_from_questions_without_neighbours(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingData, match="told apart"):
        train_reranker([RankingExample("Who?", ("Ann.",))], [case(0)], tmp_path)
    with pytest.raises(InvalidTrainingData, match="both kinds"):
        train_reranker([example(0)], [], tmp_path)


def test_a_calibration_never_turns_an_order_round() -> None:
    cases = [case(0), case(1)]
    good = fit_calibration([np.array([3.0, -1.0, -2.0])] * 2, cases)
    assert good.scale > 0
    assert good.fused_weight >= 0
    bad = fit_calibration([np.array([-3.0, 1.0, 2.0])] * 2, cases)
    assert (bad.scale, bad.offset, bad.fused_weight) == (1.0, 0.0, 0.0)


def test_the_first_stages_count_by_how_well_they_rank_within_a_question() -> None:
    """The fused scores of one question are all above those of the other, and rank well within each."""
    answers = (True, False, False)
    high = RankingCase("?", ("a", "b", "c"), (0.9, 0.8, 0.75), answers)
    low = RankingCase("?", ("a", "b", "c"), (0.3, 0.2, 0.15), answers)
    fitted = fit_calibration([np.array([0.4, 0.5, 0.0]), np.array([0.5, 0.4, 0.6])], [high, low])
    for case, own in ((high, [0.4, 0.5, 0.0]), (low, [0.5, 0.4, 0.6])):
        order = fitted.scale * np.array(own) + fitted.fused_weight * np.array(case.fused)
        assert int(order.argmax()) == 0
