"""The index answers what a plain matrix product answers; with lists, nearly always, and never with fewer."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from ingest.inverted_lists import InvertedLists, ListsFileUnusable
from ingest.list_building import build_lists
from ingest.vector_index import VectorIndex

FACTS = {"generation": "one"}


def unit_vectors(count: int, dimension: int = 16, seed: int = 7) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(index: VectorIndex, vectors: np.ndarray, per_document: int = 10) -> None:
    """Documents d0, d1, … of ten chunks each; the chunk of row n has number 1000 + n."""
    for document in range(len(vectors) // per_document):
        rows = np.arange(document * per_document, (document + 1) * per_document)
        index.add(f"d{document}", rows.astype(np.int64) + 1000, vectors[rows])


def with_lists(index: VectorIndex) -> InvertedLists:
    rows = index.begin_lists()
    built = build_lists(rows)
    assert built is not None
    index.attach_lists(*built, rows.count)
    index.end_lists()
    return built[0]


@pytest.fixture
def filled() -> tuple[VectorIndex, np.ndarray]:
    index, vectors = VectorIndex(16), unit_vectors(60)
    fill(index, vectors)
    return index, vectors


def test_search_equals_a_matrix_product(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    numbers, scores = index.search(vectors[3], 60)
    exact = vectors @ vectors[3]
    assert numbers == (np.argsort(-exact) + 1000).tolist()
    assert np.allclose(scores, np.sort(exact)[::-1], atol=1e-5)


@pytest.mark.parametrize("documents", [["d5", "d2", "unknown", "d2"], [f"d{n}" for n in range(60)]])
def test_a_search_in_some_documents_is_exact_too(documents: list[str]) -> None:
    index, vectors = VectorIndex(16), unit_vectors(600)
    fill(index, vectors)
    numbers, _ = index.search(vectors[3], 1000, documents)
    allowed = [row for row in range(600) if f"d{row // 10}" in documents]
    assert numbers == [row + 1000 for row in sorted(allowed, key=lambda row: -float(vectors[row] @ vectors[3]))]
    assert index.search(vectors[3], 5, []) == ([], [])


@pytest.mark.parametrize("count", [1, 7, 150, 600])
def test_removed_documents_are_in_no_search(count: int) -> None:
    index, vectors = VectorIndex(16), unit_vectors(600)
    fill(index, vectors)
    for document in ("d0", "d0", "d31", "d59"):
        index.remove(document)
    gone = {row + 1000 for document in (0, 31, 59) for row in range(document * 10, document * 10 + 10)}
    exact = [row + 1000 for row in np.argsort(-(vectors @ vectors[3])) if row + 1000 not in gone]
    assert len(index) == 570
    assert index.search(vectors[3], count)[0] == exact[:count]
    assert index.search(vectors[3], count, [f"d{n}" for n in range(60)])[0] == exact[:count]


def test_room_of_removed_documents_is_given_back() -> None:
    index, vectors = VectorIndex(16), unit_vectors(2000)
    fill(index, vectors)
    full = index.bytes
    for document in range(150):
        index.remove(f"d{document}")
    assert index.bytes < full / 2
    index.add("new", np.array([9999], dtype=np.int64), vectors[:1])
    exact = [row + 1000 for row in np.argsort(-(vectors @ vectors[0])) if row >= 1500]
    assert index.search(vectors[0], 11)[0] == [9999, *exact[:10]]
    assert index.search(vectors[0], 500, ["d199"])[0] == [number for number in exact if number >= 2990]


def test_adding_a_document_twice_changes_nothing(filled: tuple[VectorIndex, np.ndarray]) -> None:
    index, vectors = filled
    index.add("d0", np.arange(10, dtype=np.int64), vectors[:10])
    assert len(index) == 60


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(4)
    assert index.search(np.ones(4, dtype=np.float32), 5) == ([], [])
    assert index.search(np.ones(4, dtype=np.float32), 5, ["d"]) == ([], [])
    assert index.bytes == 0


def test_searches_and_changes_at_once_disturb_each_other_not() -> None:
    index, vectors = VectorIndex(16), unit_vectors(400)
    index.add("stays", np.array([1], dtype=np.int64), vectors[:1])
    finished, problems = threading.Event(), []

    def search() -> None:
        while not finished.is_set():
            numbers, scores = index.search(vectors[0], 3)
            if numbers[0] != 1 or not np.isfinite(scores).all():
                problems.append((numbers, scores))

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    for turn in range(100):
        for document in range(8):
            numbers = np.arange(40, dtype=np.int64) + 2 + 40 * (document + 8 * turn)
            index.add(f"{turn}-{document}", numbers, vectors[1 + 40 * document : 41 + 40 * document])
        for document in range(8):
            index.remove(f"{turn}-{document}")
    finished.set()
    for thread in searching:
        thread.join()
    assert problems == []


def clustered(count: int) -> np.ndarray:
    """Vectors that lie in groups, as texts do."""
    rng = np.random.default_rng(1)
    centres = unit_vectors(count // 20, 48)
    vectors = centres[rng.integers(len(centres), size=count)] + 0.1 * unit_vectors(count, 48, seed=2)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_inverted_lists_find_nearly_all_that_an_exact_search_finds_with_exact_scores() -> None:
    index, vectors = VectorIndex(48), clustered(3000)
    fill(index, vectors)
    exact = [index.search(vectors[row], 10) for row in range(0, 3000, 50)]
    with_lists(index)
    found = [index.search(vectors[row], 10) for row in range(0, 3000, 50)]
    same = sum(len(set(a[0]) & set(b[0])) for a, b in zip(exact, found, strict=True))
    assert same >= 0.98 * 10 * len(exact)
    assert np.allclose(found[0][1], exact[0][1], atol=1e-5)


@pytest.mark.parametrize("copies", [1, 20])
def test_texts_that_repeat_with_small_changes_are_found_as_exactly_as_others(copies: int) -> None:
    rng = np.random.default_rng(3)
    topics = unit_vectors(30, 48, seed=4)
    texts = topics[rng.integers(30, size=9000 // copies)] + 0.7 * unit_vectors(9000 // copies, 48, seed=5)
    vectors = np.repeat(texts, copies, axis=0) + 0.1 * unit_vectors(9000, 48, seed=6)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)[rng.permutation(9000)]
    index = VectorIndex(48)
    fill(index, vectors)
    queries = 0.7 * unit_vectors(60, 48, seed=7)
    queries[:30] += topics  # near no text
    queries[30:] += vectors[:30]
    exact = [set(index.search(query, 10)[0]) for query in queries]
    lists = with_lists(index)
    found = [set(index.search(query, 10)[0]) for query in queries]
    assert sum(len(a & b) for a, b in zip(exact, found, strict=True)) >= 0.98 * 10 * len(queries)
    assert lists.probes < lists.lists, "not all is looked at"


def test_inverted_lists_change_nothing_about_restrictive_filters_and_whole_rankings() -> None:
    index, vectors = VectorIndex(48), clustered(1200)
    fill(index, vectors)
    with_lists(index)
    documents = ["d7", "d90"]
    exact = sorted([*range(70, 80), *range(900, 910)], key=lambda row: -float(vectors[row] @ vectors[5]))
    assert index.search(vectors[5], 15, documents)[0] == [row + 1000 for row in exact[:15]]
    assert len(index.search(vectors[5], 1200)[0]) == 1200


def test_what_comes_and_goes_after_the_lists_were_built_is_found_and_not_found() -> None:
    index, vectors = VectorIndex(48), clustered(2000)
    fill(index, vectors[:1500])
    with_lists(index)
    for document in range(0, 100):
        index.remove(f"d{document}")  # enough for the rows to be closed up under the lists
    index.add("late", np.array([5000], dtype=np.int64), vectors[1:2])
    expected = [5000, *(row + 1000 for row in np.argsort(-(vectors[:1500] @ vectors[1])) if row >= 1000)]
    assert len(set(index.search(vectors[1], 10)[0]) & set(expected[:10])) >= 9
    assert index.search(vectors[1], 10)[0][0] == 5000
    assert len(index.search(vectors[1], 400)[0]) == 400
    most = [f"d{document}" for document in range(100, 145)]
    assert set(index.search(vectors[1], 400, most)[0]) <= set(range(2000, 2450))


def test_saved_lists_are_the_same_when_read_again(tmp_path: Path) -> None:
    index, vectors = VectorIndex(48), clustered(500)
    fill(index, vectors)
    lists = with_lists(index)
    lists.save(tmp_path / "index" / "some.lists", FACTS)
    again = InvertedLists.load(tmp_path / "index" / "some.lists", FACTS)
    assert again.candidates(vectors[4], 10).tolist() == lists.candidates(vectors[4], 10).tolist()
    assert again.numbers.tolist() == lists.numbers.tolist()
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["some.lists"]


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "head", "emptied", "removed", "other"])
def test_a_damaged_or_foreign_file_of_lists_is_never_read(tmp_path: Path, damage: str) -> None:
    lists = InvertedLists(unit_vectors(100), 10)
    lists.add(np.arange(100), unit_vectors(100))
    path = tmp_path / "some.lists"
    lists.save(path, FACTS)
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = {
        "cut": content[:-1],
        "longer": content + b"\0",
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "head": content[:20] + b"]" + content[21:],
        "emptied": b"",
    }
    if damage in damaged:
        path.write_bytes(damaged[damage])
    elif damage == "removed":
        path.unlink()
    with pytest.raises(ListsFileUnusable):
        InvertedLists.load(path, {"generation": "another"} if damage == "other" else FACTS)
