"""The index answers what a plain matrix product answers."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.vector_index import VectorIndex


@pytest.fixture
def filled() -> tuple[VectorIndex, np.ndarray]:
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(60, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(16)
    for document in range(6):
        rows = np.arange(document * 10, document * 10 + 10)
        index.add(f"d{document}", rows.astype(np.int64) + 1000, vectors[rows])
    return index, vectors


def test_search_equals_a_matrix_product(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    numbers, scores = index.search(vectors[3], 60)
    exact = vectors @ vectors[3]
    assert numbers == (np.argsort(-exact) + 1000).tolist()
    assert np.allclose(scores, np.sort(exact)[::-1], atol=1e-5)


def test_a_search_in_some_documents_is_exact_too(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    numbers, _ = index.search(vectors[3], 100, ["d5", "d2", "unknown"])
    allowed = [*range(20, 30), *range(50, 60)]
    exact = sorted(allowed, key=lambda row: -float(vectors[row] @ vectors[3]))
    assert numbers == [row + 1000 for row in exact]
    assert index.search(vectors[3], 5, []) == ([], [])


def test_a_removed_document_is_not_found(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    index.remove("d0")
    index.remove("d0")
    assert len(index) == 50
    assert min(index.search(vectors[3], 60)[0]) == 1010


def test_adding_a_document_twice_changes_nothing(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    index.add("d0", np.arange(10, dtype=np.int64), vectors[:10])
    assert len(index) == 60


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(4)
    assert index.search(np.ones(4, dtype=np.float32), 5) == ([], [])
    assert index.bytes == 0
