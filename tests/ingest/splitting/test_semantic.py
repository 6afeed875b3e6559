"""By meaning: cuts lie where the talk turns to something else; sentences are embedded once, in portions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.parsing.document import Heading, ParsedDocument
from ingest.splitting import SplitConfig, split
from ingest.splitting.semantic import _across, _distances
from tests.ingest.hashing_embedder import HashingEmbedder

CONFIG = SplitConfig(1000, minimum=100, method="semantic")
BOATS = [f"The boats sail across the sea to harbour {i}." for i in range(8)]
BREAD = [f"Dough rests until our bread rises in oven {i}." for i in range(8)]


class CountingEmbedder(HashingEmbedder):
    """Remembers how much it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.portions: list[int] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.portions.append(len(texts))
        return super().encode(texts)


def test_the_cut_lies_where_the_subject_changes() -> None:
    text = " ".join(BOATS + BREAD)
    done = split(ParsedDocument(text, "text/plain"), CONFIG, HashingEmbedder().encode)
    assert done is not None
    assert text.index(BREAD[0]) in {chunk.start for chunk in done.chunks}


def test_sizes_are_bounded_on_both_sides() -> None:
    text = " ".join((BOATS + BREAD) * 20)
    done = split(ParsedDocument(text, "text/plain"), CONFIG, HashingEmbedder().encode)
    assert done is not None
    assert all(CONFIG.minimum <= chunk.end - chunk.start <= CONFIG.size for chunk in done.chunks)


def test_each_sentence_is_embedded_once_and_many_together() -> None:
    embedder = CountingEmbedder()
    split(ParsedDocument(" ".join(BOATS * 40), "text/plain"), CONFIG, embedder.encode)
    assert embedder.portions == [128, 128, 64]


def test_portions_make_no_difference_to_distances() -> None:
    sentences = (BOATS + BREAD) * 17
    whole = _across(HashingEmbedder().encode(sentences))
    found = _distances(sentences, HashingEmbedder().encode, lambda: False)
    assert found is not None
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_it_stops_between_portions_when_asked_to() -> None:
    embedder = CountingEmbedder()
    parsed = ParsedDocument(" ".join(BOATS * 40), "text/plain")
    assert split(parsed, CONFIG, embedder.encode, should_stop=lambda: len(embedder.portions) == 1) is None
    assert embedder.portions == [128]


def test_a_heading_stays_with_what_follows_it() -> None:
    text = "\n\n".join([" ".join(BOATS), "Bakery", " ".join(BREAD)])
    heading = Heading(text.index("Bakery"), 1, "Bakery")
    parsed = ParsedDocument(text, "text/plain", headings=(heading,))
    done = split(parsed, SplitConfig(1000, minimum=1, method="semantic"), HashingEmbedder().encode)
    assert done is not None
    assert not any(text[chunk.start : chunk.end].endswith("Bakery") for chunk in done.chunks)
