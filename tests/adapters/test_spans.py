"""Windows and spans, on plain arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.spans import Calibration, Window, best_span, windows_of


def test_a_short_passage_is_one_window() -> None:
    assert windows_of(10, room=10, stride=3) == [Window(0, 10)]


@given(length=st.integers(1, 2000), room=st.integers(2, 300), stride=st.integers(0, 100))
def test_windows_cover_every_token_and_overlap(length: int, room: int, stride: int) -> None:
    windows = windows_of(length, room, stride)
    assert windows[0].begin == 0
    assert windows[-1].end == length
    assert all(w.end - w.begin <= room for w in windows)
    assert all(b.begin <= a.end and b.begin > a.begin for a, b in itertools.pairwise(windows))


def scores(**at: float) -> np.ndarray:
    row = np.zeros(8, dtype=np.float32)
    for position, value in at.items():
        row[int(position[1:])] = value
    return row


def test_the_best_span_never_ends_before_it_starts() -> None:
    assert best_span(scores(p6=5), scores(p3=5, p7=1), 2, 8, 10)[:2] == (6, 7)


def test_a_span_has_at_most_the_allowed_tokens() -> None:
    first, last, _ = best_span(scores(p2=5), scores(p7=5), 2, 8, 3)
    assert last - first < 3


def test_a_length_penalty_prefers_the_shorter_of_near_equals_and_leaves_the_score() -> None:
    start, end = scores(p2=1.1, p5=1), scores(p6=3)
    assert best_span(start, end, 2, 8, 10)[:2] == (2, 6)
    first, last, score = best_span(start, end, 2, 8, 10, 0.1)
    assert (first, last) == (5, 6)
    assert score == pytest.approx(4)


def test_a_span_lies_inside_the_passage_and_is_scored_above_no_answer() -> None:
    first, last, score = best_span(scores(p0=2, p1=9, p4=3), scores(p0=1, p5=4), 2, 8, 10)
    assert (first, last) == (4, 5)
    assert score == pytest.approx(3 + 4 - 2 - 1)


def test_confidence_grows_with_the_score_and_stays_between_0_and_1() -> None:
    confidence = [Calibration(0.5, -1, 0.3).confidence(score) for score in (-1e9, -2.0, 0.0, 2.0, 1e9)]
    assert confidence == sorted(confidence)
    assert 0 <= confidence[0] < 0.01
    assert 0.99 < confidence[-1] <= 1
