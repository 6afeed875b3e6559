"""Every embedder keeps one contract; scripts other than Latin are noticed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ingest.embedding import (
    Embedder,
    SentenceTransformerEmbedder,
    embedded_text,
    folder_fingerprint,
    foreign_script,
)
from ingest.errors import EmbedderUnavailable
from ingest.openvino_embedder import OpenVINOEmbedder
from tests.ingest.hashing_embedder import HashingEmbedder

TEXTS = ["The annual report was published in March.", "Ibuprofen reduces fever.", "Holidays are granted by managers."]


@pytest.fixture(
    scope="module",
    params=[
        HashingEmbedder,
        pytest.param(SentenceTransformerEmbedder, marks=pytest.mark.model),
        pytest.param(OpenVINOEmbedder, marks=pytest.mark.model),
    ],
)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    made: Embedder = request.param()
    return made


def test_vectors_are_unit_float32_of_the_stated_dimension(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    assert isinstance(embedder, Embedder)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, embedder.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, embedder.dimension)


def test_the_order_of_texts_does_not_matter(embedder: Embedder) -> None:
    forward, backward = embedder.encode(TEXTS), embedder.encode(TEXTS[::-1])
    assert np.allclose(forward, backward[::-1], atol=1e-4)


def test_a_question_is_nearest_to_its_answer(embedder: Embedder) -> None:
    query = embedder.encode(["Which drug reduces fever?"])[0]
    assert int(np.argmax(embedder.encode(TEXTS) @ query)) == 1


def test_strange_texts_are_embedded_all_the_same(embedder: Embedder) -> None:
    vectors = embedder.encode(["", " ", "\ud800 lone", "a" * 5000, "\x00"])
    assert np.isfinite(vectors).all()


def test_many_threads_may_embed_at_once(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: embedder.encode(TEXTS), range(8)):
            assert np.allclose(vectors, expected, atol=1e-4)


def test_two_embedders_of_one_model_share_a_fingerprint(embedder: Embedder) -> None:
    assert type(embedder)().fingerprint == embedder.fingerprint


def test_a_fingerprint_follows_the_files_contents_and_not_their_place(tmp_path: Path) -> None:
    for folder, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(weights)
    a, b, c = (folder_fingerprint(tmp_path / folder) for folder in "abc")
    assert a == b != c


@pytest.mark.model
def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match="nowhere"):
        SentenceTransformerEmbedder(str(tmp_path / "nowhere")).encode(["x"])


def test_the_title_is_embedded_above_the_text() -> None:
    assert embedded_text("Handbook", "Ten days.") == "Handbook\nTen days."
    assert embedded_text(None, "Ten days.") == "Ten days."


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("An English text", None),
        ("Ein Text über Äpfel", None),
        ("Годовой отчёт компании", "Cyrillic"),
        ("年度报告说明了收入", "Han"),
        ("Ετήσια έκθεση", "Greek"),
        ("The word отчёт means report", None),
        ("12 + 34 = 46", None),
        ("", None),
    ],
)
def test_a_script_other_than_latin_is_named(text: str, script: str | None) -> None:
    assert foreign_script(text) == script
