"""From a query to passages, stage by stage: dense and keyword search, fusion, reranking, diversity, neighbours.

    query ─┬─ dense search ───┬─ fuse ─ rerank ─ diversify ─ expand ─ passages
           └─ keyword search ─┘

Every stage can be left out for a query. Whatever is found is joined with its row, so what an index still holds of a
deleted document is never seen; filter and collection hold exactly in both searches. Knows rows, scores and the order of
stages; knows no model: embedder and reranker are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest import document_store as store
from ingest import keyword_index, vector_store
from ingest.database import Connection, Database
from ingest.dense_search import DenseSearch, Found
from ingest.embedding import Embedder, embedded_text
from ingest.errors import RerankerUnavailable
from ingest.filters import compile_filter
from ingest.fusion import Scores, diversify, fuse
from ingest.query_cache import QueryCache
from ingest.records import FoundPassage, PassageScores

Mode = Literal["hybrid", "dense", "keyword"]
_FIRST_STAGE = 50  # candidates of each search, at least


class Reranker(Protocol):
    """Reads query and passage together."""

    @property
    def fused_weight(self) -> float:
        """What a fused score of 1 adds to the log-odds; 0 lets the reranker decide alone."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Log-odds that each text answers the query. Safe from any thread."""


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """Which stages a query goes through.

    Attributes:
        mode: which searches find candidates.
        rerank: whether the best candidates are reranked; ``None``: whenever there is a reranker.
        candidates: how many are reranked, and among how many diversity chooses; never fewer than are asked for.
        diversity: 0 to 1; above 0, a passage that is like one before it is put back (maximal marginal relevance).
        expand: how many neighbouring chunks of the same document are joined to a passage on either side.
    """

    mode: Mode = "hybrid"
    rerank: bool | None = None
    candidates: int = 20
    diversity: float = 0.0
    expand: int = 0


DEFAULT_RETRIEVAL = RetrievalOptions()


@dataclass(frozen=True, slots=True)
class _Query:
    """A query on its way: ``vector`` is float32 ``[dimension]``, ``None`` when only its words are looked for."""

    text: str
    vector: NDArray[np.float32] | None
    documents: list[str] | None
    options: RetrievalOptions


class Retriever:
    """Finds passages of one corpus. Safe to use from any thread.

    Args:
        dense: the dense search.
        reranker: reads query and passage together; ``None`` when there is none.
    """

    def __init__(self, database: Database, embedder: Embedder, dense: DenseSearch, reranker: Reranker | None) -> None:
        self._database = database
        self._queries = QueryCache(embedder)
        self._dense = dense
        self._reranker = reranker

    def search(
        self,
        query: str,
        top_k: int,
        filter: Mapping[str, Any] | None,
        collection: str | None,
        options: RetrievalOptions,
    ) -> list[FoundPassage]:
        """The ``top_k`` best passages for ``query``, best first: see `Corpus.search`."""
        predicate = compile_filter(filter)  # refused before a model works
        reranker = self._chosen_reranker(options)
        if top_k <= 0:
            return []
        vector = None if options.mode == "keyword" else self._queries.vector(query)
        documents = None
        if predicate is not None or collection is not None:
            with self._database.read() as connection:
                documents = store.matching(connection, predicate, collection)
        candidates = max(top_k, options.candidates)
        found = self._first_stage(_Query(query, vector, documents, options), candidates)
        if reranker is not None:
            found = _reranked(reranker, query, found)
        if options.diversity <= 0 and options.expand <= 0:
            return found[:top_k]
        with self._database.read() as connection:
            if options.diversity > 0:
                found = _diversified(connection, found, options.diversity, top_k)
            found = found[:top_k]
            if options.expand > 0:
                found = [store.expanded(connection, passage, options.expand) for passage in found]
        return found

    def _chosen_reranker(self, options: RetrievalOptions) -> Reranker | None:
        if options.rerank and self._reranker is None:
            raise RerankerUnavailable(
                "this service has no reranker: its weights are not installed, or LOREBASE_RERANKER is `none`; "
                "ask without rerank"
            )
        return None if options.rerank is False else self._reranker

    def _first_stage(self, query: _Query, count: int) -> list[FoundPassage]:
        """The best ``count`` passages by the fused score, or by the one search that is asked for."""
        wanted = max(count, _FIRST_STAGE)
        if query.vector is None:
            with self._database.read() as connection:
                return _joined(query, wanted, connection, ([], []))[0][:count]
        while True:
            read = partial(_joined, query, wanted)
            found, is_all = self._dense.searched(query.vector, wanted, query.documents, read)
            if len(found) >= count or is_all:
                return found[:count]
            wanted *= 2  # some were deleted between the index and the rows


def _joined(query: _Query, wanted: int, connection: Connection, dense: Found) -> tuple[list[FoundPassage], bool]:
    """Candidates of both searches, each with both scores, best first; and whether the dense search has
    no more."""
    dense_scores = dict(zip(*dense, strict=True))
    keyword_scores: dict[int, float] = {}
    ceiling = 0.0
    if query.options.mode != "dense":
        keyword_scores = dict(zip(*keyword_index.search(connection, query.text, wanted, query.documents), strict=True))
    if query.options.mode == "hybrid" and query.vector is not None:
        # What one search found gets the other's score too: a missing score is not a score of nothing.
        missing = [number for number in keyword_scores if number not in dense_scores]
        numbers, vectors = vector_store.vectors_of(connection, missing, len(query.vector))
        dense_scores |= dict(zip(numbers, (vectors @ query.vector).tolist(), strict=True))
        missing = [number for number in dense_scores if number not in keyword_scores]
        keyword_scores |= keyword_index.scores(connection, query.text, missing)
        ceiling = keyword_index.ceiling(connection, query.text)
    numbers = list(dict.fromkeys([*dense_scores, *keyword_scores]))
    scores = [PassageScores(dense_scores.get(n), keyword_scores.get(n)) for n in numbers]
    final = _final(query.options.mode, scores, ceiling)
    if query.options.mode == "hybrid":
        scores = [replace(each, fused=value) for each, value in zip(scores, final.tolist(), strict=True)]
    order = np.argsort(-final, kind="stable").tolist()
    passages = store.passages(
        connection, [numbers[i] for i in order], [float(final[i]) for i in order], [scores[i] for i in order]
    )
    return passages, len(dense[0]) < wanted


def _final(mode: Mode, scores: Sequence[PassageScores], ceiling: float) -> Scores:
    dense = np.array([each.dense or 0.0 for each in scores])  # [n]
    keyword = np.array([each.keyword or 0.0 for each in scores])  # [n]
    if mode == "hybrid":
        return fuse(dense, keyword, ceiling)
    return dense if mode == "dense" else keyword


def _reranked(reranker: Reranker, query: str, found: Sequence[FoundPassage]) -> list[FoundPassage]:
    """The passages by the reranker's score, which becomes their own: a probability."""
    odds = reranker.score(query, [embedded_text(passage.title, passage.text) for passage in found])
    rescored = []
    for passage, own in zip(found, odds, strict=True):
        rerank = _sigmoid(own + reranker.fused_weight * (passage.scores.fused or 0.0))
        rescored.append(replace(passage, score=rerank, scores=replace(passage.scores, rerank=rerank)))
    return sorted(rescored, key=lambda passage: -passage.score)


def _diversified(
    connection: Connection, found: Sequence[FoundPassage], diversity: float, count: int
) -> list[FoundPassage]:
    if not found:
        return []
    vectors = vector_store.vectors_at(connection, [(passage.document_id, passage.position) for passage in found])
    # What is not there any more was deleted a moment ago.
    kept = [passage for passage in found if (passage.document_id, passage.position) in vectors]
    if not kept:
        return []
    highest = max(passage.score for passage in kept)
    relevance = np.array([max(0.0, passage.score) / highest if highest > 0 else 0.0 for passage in kept])  # [n]
    order = diversify(
        relevance, np.stack([vectors[passage.document_id, passage.position] for passage in kept]), diversity, count
    )
    return [kept[i] for i in order]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
