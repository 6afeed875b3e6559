"""Each stage does what it says, can be left out for a query, and shows its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ingest.corpus import Corpus
from ingest.cross_encoder import CrossEncoderReranker
from ingest.database import Database, SqliteDatabase
from ingest.document_store import passages
from ingest.errors import InvalidFilter, RerankerUnavailable
from ingest.fusion import diversify, fuse
from ingest.live_index import IndexOptions
from ingest.records import NewDocument, PassageScores
from ingest.retrieval import RetrievalOptions
from ingest.schema import DOCUMENT_MIGRATIONS
from ingest.splitting import SplitConfig
from ingest.vector_store import vectors_at
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import InProcessParser

MakeCorpus = Callable[..., Corpus]


class LongestFirst:
    """A reranker that prefers long texts."""

    fused_weight = 0.0

    def __init__(self) -> None:
        self.seen: list[int] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.seen.append(len(texts))
        return [float(len(text)) / 100 for text in texts]


@pytest.fixture
def make(database: Database, index_options: IndexOptions) -> MakeCorpus:
    split = SplitConfig(size=200, overlap=0)
    return lambda **more: Corpus(database, HashingEmbedder(), split, index=index_options, **more)


def ingest(corpus: Corpus, text: str, collection: str = "default", **metadata: object) -> str:
    with corpus._database.write() as connection:
        added = corpus.add(
            connection, NewDocument(None, "n", text.encode(), metadata, collection=collection, is_text=True)
        )
    assert corpus.process(added.id, InProcessParser()) == "ready"
    return added.id


def test_hybrid_finds_what_either_search_finds_and_shows_both_scores(make: MakeCorpus) -> None:
    corpus = make()
    ingest(corpus, "The turbine turns in the hall.")
    ingest(corpus, "Nothing in common at all.")
    best, other = corpus.search("turbine hall", 5)
    assert best.scores.dense is not None
    assert best.scores.keyword is not None
    assert best.scores.fused == best.score > other.score
    assert best.scores.rerank is None
    assert other.scores.keyword is None


@pytest.mark.parametrize(("mode", "absent"), [("dense", "keyword"), ("keyword", "dense")])
def test_one_search_alone_scores_alone(make: MakeCorpus, mode: str, absent: str) -> None:
    corpus = make()
    ingest(corpus, "The turbine turns in the hall.")
    found = corpus.search("turbine", 5, options=RetrievalOptions(mode=mode))  # type: ignore[arg-type]
    assert getattr(found[0].scores, absent) is None
    assert found[0].score == getattr(found[0].scores, mode)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "keyword"])
def test_filter_and_collection_hold_exactly_in_every_mode(make: MakeCorpus, mode: str) -> None:
    corpus = make()
    for number in range(30):
        ingest(corpus, f"turbine report number {number}", "a" if number % 2 else "b", year=number)
    options = RetrievalOptions(mode=mode)  # type: ignore[arg-type]
    found = corpus.search("turbine report", 100, {"year": {"gte": 20}}, "a", options)
    assert sorted(int(p.text.split()[-1]) for p in found) == [21, 23, 25, 27, 29]
    with pytest.raises(InvalidFilter):
        corpus.search("turbine", 5, {"year": {"about": 3}}, None, options)


def test_the_best_candidates_are_reranked_and_the_reranker_has_the_last_word(make: MakeCorpus) -> None:
    reranker = LongestFirst()
    corpus = make(reranker=reranker)
    for number in range(30):
        ingest(corpus, "turbine " + "and more " * (number % 9) + str(number))
    found = corpus.search("turbine", 3)
    assert reranker.seen == [20]
    assert found[0].score == found[0].scores.rerank
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    corpus.search("turbine", 25)
    assert reranker.seen[-1] == 25
    corpus.search("turbine", 3, options=RetrievalOptions(rerank=False))
    assert len(reranker.seen) == 2


def test_reranking_without_a_reranker_is_refused_when_it_is_asked_for(make: MakeCorpus, tmp_path: Path) -> None:
    with pytest.raises(RerankerUnavailable, match="LOREBASE_RERANKER"):
        make().search("turbine", 3, options=RetrievalOptions(rerank=True))
    with pytest.raises(RerankerUnavailable, match="cannot be loaded"):
        CrossEncoderReranker(str(tmp_path / "nothing")).score("a", ["b"])


def test_diversity_puts_a_passage_like_an_earlier_one_back(make: MakeCorpus) -> None:
    corpus = make()
    for text in ("turbine hall north", "turbine hall north side", "turbine manual in the archive of the company"):
        ingest(corpus, text)
    plain = [p.text for p in corpus.search("turbine hall north", 2)]
    diverse = [p.text for p in corpus.search("turbine hall north", 2, options=RetrievalOptions(diversity=0.7))]
    assert plain == ["turbine hall north", "turbine hall north side"]
    assert diverse == ["turbine hall north", "turbine manual in the archive of the company"]


def test_expansion_joins_neighbours_of_the_same_document_exactly(make: MakeCorpus) -> None:
    corpus = make()
    text = "\n\n".join(f"Paragraph {n} is about subject{n}. " + "It has some more words. " * 6 for n in range(9))
    document_id = ingest(corpus, text)
    (plain,) = corpus.search("subject4", 1)
    (wide,) = corpus.search("subject4", 1, options=RetrievalOptions(expand=1))
    assert wide.chunk_id == plain.chunk_id
    assert wide.start < plain.start
    assert wide.end > plain.end
    assert wide.text == corpus.text(document_id)[wide.start : wide.end]
    (all_of_it,) = corpus.search("subject4", 1, options=RetrievalOptions(expand=50))
    assert (all_of_it.start, all_of_it.end) == (0, len(text.rstrip()))


def test_what_is_deleted_is_found_by_no_stage(make: MakeCorpus) -> None:
    corpus = make()
    gone, stays = ingest(corpus, "turbine one"), ingest(corpus, "turbine two")
    corpus.search("turbine", 1)
    corpus.delete(gone)
    options = RetrievalOptions(diversity=0.5, expand=2)
    assert [p.document_id for p in corpus.search("turbine one", 5, options=options)] == [stays]


def test_looking_up_passages_costs_the_same_however_many_documents_there_are(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "tenant.sqlite", {"documents": DOCUMENT_MIGRATIONS})
    corpus = Corpus(database, HashingEmbedder())
    first = ingest(corpus, "The turbine turns in the hall.")
    few = _steps_to_look_up(database, first)
    with database.write() as connection:
        for table in ("documents", "chunks"):
            columns = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")][1:]
            changed = {"id": "'copy ' || n", "sha256": "n", "document_id": "'copy ' || n"}
            connection.execute(
                f"WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies LIMIT 3000) "
                f"INSERT INTO {table} ({', '.join(map(quoted, columns))}) "
                f"SELECT {', '.join(changed.get(column, quoted(column)) for column in columns)} FROM {table}, copies"
            )
    assert _steps_to_look_up(database, first) <= few
    database.close()


def quoted(name: str) -> str:
    return f'"{name}"'


def _steps_to_look_up(database: Database, document_id: str) -> int:
    """How many steps SQLite takes to look up the document's passage."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.read() as connection:
        connection.set_progress_handler(count, 1)
        found = passages(connection, [1], [1.0], [PassageScores()])
        places = vectors_at(connection, [(document_id, 0)])
        connection.set_progress_handler(None, 1)
    assert [passage.document_id for passage in found] == [document_id]
    assert list(places) == [(document_id, 0)]
    return steps


def test_a_word_that_tells_little_weighs_little() -> None:
    sure = fuse(np.array([0.5, 0.6]), np.array([9.0, 0.0]), 10.0)
    unsure = fuse(np.array([0.5, 0.6]), np.array([0.9, 0.0]), 10.0)
    assert sure[0] > sure[1]
    assert unsure[0] < unsure[1]
    assert fuse(np.array([0.5]), np.array([0.0]), 0.0).tolist() == [0.25]


def test_without_diversity_the_order_is_relevance() -> None:
    vectors = np.eye(4, dtype=np.float32)
    assert diversify(np.array([0.2, 0.9, 0.1, 0.5]), vectors, 0.0, 10) == [1, 3, 0, 2]
