"""Splitting where the meaning turns: between sentences whose neighbourhoods lie far apart in the embedding space.

TextTiling (Hearst 1997) with sentence embeddings in the place of word counts, and a percentile for the threshold as in
Kamradt's semantic chunker (2023). Each sentence is embedded once; a group's vector is the mean of its sentences'.
Knows the embedder as a function only.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.parsing.document import ParsedDocument
from ingest.splitting.chunks import Span, SplitConfig
from ingest.splitting.recursive import even_pieces, sentence_units

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors, float32 ``[len(texts), dimension]``, each of length 1."""

_GROUP = 3  # sentences on each side of a gap
_AT_ONCE = 128  # sentences between two looks at should_stop
_PERCENTILE = 80


def semantic_spans(
    document: ParsedDocument, config: SplitConfig, encode: Encode, should_stop: Callable[[], bool]
) -> list[Span] | None:
    """The chunks of a document by meaning, in order; ``None`` when asked to stop.

    A cut lies where the cosine distance between the groups of sentences before and after it is among the largest fifth
    of the document; further ones, at the largest distances left, where a chunk would be longer than ``config.size``.
    No cut makes a chunk shorter than ``config.minimum``, and none parts a heading from what follows it.
    """
    text = document.text
    units = list(sentence_units(text, 0, len(text), config.size))
    if not units:
        return []
    distances = _distances([text[start:end] for start, end in units], encode, should_stop)
    if distances is None:
        return None
    headings = {heading.start for heading in document.headings}
    after_heading = [start in headings for start, _ in units[:-1]]
    distances[np.array(after_heading, dtype=bool)] = -1
    spans: list[Span] = []
    for first, last in _segments(units, distances, config):
        start, end = units[first][0], units[last - 1][1]
        fits = end - start <= config.size
        spans += [(start, end)] if fits else even_pieces(units[first:last], config)
    return spans


def _segments(units: Sequence[Span], distances: NDArray[np.float64], config: SplitConfig) -> list[tuple[int, int]]:
    """Runs of units, as half-open indices. Gaps are taken from the largest distance down, so that one look at each is
    enough: what lies around it only ever becomes shorter."""
    cuts = [0, len(units)]
    threshold = float(np.percentile(distances, _PERCENTILE)) if len(distances) else 0.0
    for gap in np.argsort(-distances, kind="stable").tolist():
        place = bisect_right(cuts, gap + 1)
        first, last = cuts[place - 1], cuts[place]
        before = units[gap][1] - units[first][0]
        after = units[last - 1][1] - units[gap + 1][0]
        whole = units[last - 1][1] - units[first][0]
        wanted = distances[gap] > threshold or whole > config.size
        if wanted and distances[gap] >= 0 and min(before, after) >= config.minimum:
            insort(cuts, gap + 1)
    return list(itertools.pairwise(cuts))


def _distances(sentences: Sequence[str], encode: Encode, should_stop: Callable[[], bool]) -> NDArray[np.float64] | None:
    """Cosine distance across each gap between two sentences, ``[len(sentences) - 1]``; ``None`` when asked to stop.

    No more vectors are held than one portion's and those around its edges.
    """
    found: list[NDArray[np.float64]] = []
    held = np.empty((0, 0), dtype=np.float32)  # [h, d]
    measured = 0  # gaps
    for first in range(0, len(sentences), _AT_ONCE):
        if should_stop():
            return None
        portion = encode(sentences[first : first + _AT_ONCE])  # [p, d]
        held = np.concatenate([held, portion]) if len(held) else portion
        seen = first + len(portion)
        base = seen - len(held)  # of the first vector held
        last = seen - 1 if seen == len(sentences) else max(seen - _GROUP, measured)
        found.append(_across(held)[measured - base : last - base])
        measured = last
        held = held[max(measured + 1 - _GROUP - base, 0) :]
    return np.concatenate(found)


def _across(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The distance across each gap between two of ``vectors`` ``[n, d]``: ``[n - 1]``."""
    count = len(vectors)
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])  # [n + 1, d]
    gaps = np.arange(1, count)
    before = sums[gaps] - sums[np.maximum(gaps - _GROUP, 0)]  # [n - 1, d]
    after = sums[np.minimum(gaps + _GROUP, count)] - sums[gaps]  # [n - 1, d]
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    distances: NDArray[np.float64] = 1 - (before * after).sum(axis=1) / np.maximum(norms, 1e-9)
    return distances
