"""A question asked again is not embedded again, and never answered with another question's vector."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.query_cache import QueryCache
from tests.ingest.hashing_embedder import HashingEmbedder


class CountingEmbedder(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return super().encode(texts)


def test_a_question_asked_again_is_embedded_once() -> None:
    embedder = CountingEmbedder()
    queries = QueryCache(embedder)
    first, again = queries.vector("Who signs?"), queries.vector("Who signs?")
    assert embedder.embedded == ["Who signs?"]
    assert np.array_equal(first, again)
    assert np.array_equal(first, HashingEmbedder().encode(["Who signs?"])[0])


def test_the_question_not_used_for_longest_is_forgotten_first() -> None:
    embedder = CountingEmbedder()
    queries = QueryCache(embedder, capacity=2)
    for question in ("a", "b", "a", "c", "a", "b"):
        queries.vector(question)
    assert embedder.embedded == ["a", "b", "c", "b"]


def test_a_vector_of_another_model_is_not_used() -> None:
    embedder = CountingEmbedder()
    queries = QueryCache(embedder)
    queries.vector("Who signs?")
    embedder.fingerprint = "another"
    queries.vector("Who signs?")
    assert len(embedder.embedded) == 2


def test_a_kept_vector_cannot_be_changed_by_who_got_it() -> None:
    vector = QueryCache(HashingEmbedder()).vector("Who signs?")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1


def test_many_threads_each_get_their_own_questions_vector() -> None:
    questions = [f"question number {number % 20}" for number in range(200)]
    expected = HashingEmbedder().encode(questions)
    queries = QueryCache(HashingEmbedder(), capacity=8)
    with ThreadPoolExecutor(8) as pool:
        assert np.array_equal(np.stack(list(pool.map(queries.vector, questions))), expected)
