"""Rows in SQLite beside rows in PostgreSQL: `make bench NAME=stores`.

Three real server processes on this machine are given the same documents and asked the same questions in turn: one on a
folder of its own, one on a PostgreSQL server that the package `pgserver` runs, and one on another such server that
searches the vectors there, exactly. `same_answers`: the share of questions that all of them answer alike, with the same
cited places; `ask_p50_ratio`: the median of an answer from PostgreSQL against one from SQLite, `database_ask_p50_ratio`
where that searches; `search_…` of passages alone; `ingest_…`: the time until all documents could be asked.

`hnsw_recall`: what a tenant's graph in the database finds of the ten nearest sentences of the set, asked for with its
questions, against an exact search.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from adapters.squad import read_squad
from app.client import LorebaseClient
from app.client.requests.documents import Text
from app.evaluation import documents_of, read_articles
from app.local_server import local_server
from app.schemas import AskResponse
from benchmarks.database_search import measure_graph_in_database, postgresql
from benchmarks.measure import Spread, parse_arguments, report
from benchmarks.search_scale import real_vectors
from ingest import make_embedder

_SIZES = {True: (2, 40, 2000), False: (6, 150, 10_000)}  # quick: articles, questions, sentences at most
_WARM_UP = 5
_REST_SECONDS = 0.01


def told(answer: AskResponse) -> tuple[Any, ...]:
    """What must be the same: the answer, and where it was found."""
    places = [(c.title, c.start, c.end, c.quote) for c in answer.citations]
    return answer.answer, answer.abstained, places, [(p.title, p.start, p.end) for p in answer.passages]


def timed(taken: list[float], work: Callable[[], Any]) -> Any:
    """Do the work, after a rest, and keep its milliseconds."""
    time.sleep(_REST_SECONDS)
    began = time.perf_counter()
    result = work()
    taken.append((time.perf_counter() - began) * 1000)
    return result


def measure(clients: dict[str, LorebaseClient], questions: list[str]) -> dict[str, Any]:
    """Ask every question of all in turn, then search for as many others."""
    asked: dict[str, list[float]] = {name: [] for name in clients}
    searched: dict[str, list[float]] = {name: [] for name in clients}
    same = 0
    for number, question in enumerate(questions):
        order = list(clients.items())[:: 1 if number % 2 else -1]
        answers = {name: timed(asked[name], partial(client.ask, question)) for name, client in order}
        same += len({repr(told(answer)) for answer in answers.values()}) == 1
        for name, client in order:
            timed(searched[name], partial(client.search, f"{question} {number}"))
    return {
        "same": same / len(questions),
        "ask": {name: Spread.of(values[_WARM_UP:]) for name, values in asked.items()},
        "search": {name: Spread.of(values[_WARM_UP:]) for name, values in searched.items()},
    }


def main() -> None:
    """Run the measurement."""
    arguments = parse_arguments(
        "Rows in SQLite beside rows in PostgreSQL.", default_set="squad-v1.1-dev36.json", repeats=1, quick_repeats=1
    )
    most_articles, most_questions, most_sentences = _SIZES[arguments.quick]
    articles = dict(list(read_articles(arguments.data).items())[:most_articles])
    asked = list(dict.fromkeys(q.question for q in read_squad(arguments.data) if q.article in articles))
    questions = random.Random(0).sample(asked, min(most_questions, len(asked)))
    documents: list[Text] = [{"title": d.title, "text": d.text} for d in documents_of(articles, "paragraph")]
    with ExitStack() as stack:
        ways: dict[str, dict[str, str]] = {
            "sqlite": {},
            "postgresql": {"LOREBASE_DATABASE_URL": stack.enter_context(postgresql())},
            "database": {
                "LOREBASE_DATABASE_URL": stack.enter_context(postgresql()),
                "LOREBASE_VECTOR_SEARCH": "database",
            },
        }
        clients: dict[str, LorebaseClient] = {}
        taken: dict[str, float] = {}
        for name, settings in ways.items():
            server = stack.enter_context(local_server(environment=settings))
            clients[name] = stack.enter_context(server.client())
            began = time.perf_counter()
            for first in range(0, len(documents), 100):
                clients[name].ingest_texts(documents[first : first + 100])
            taken[name] = time.perf_counter() - began
        found = measure(clients, questions)
    sentences = real_vectors(arguments.data, most_sentences, None)
    queries = make_embedder().encode(questions)
    with postgresql() as url:
        graph = measure_graph_in_database(url, iter([sentences]), queries)
    rows = [(f"{what}, {name}", str(found[what][name]), "ms") for what in ("ask", "search") for name in clients]
    rows += [(f"ingest, {name}", f"{seconds:.2f}", "s") for name, seconds in taken.items()]
    rows += [(f"{len(sentences):,} sentences in the database", f"{value:.4g}", name) for name, value in graph.items()]
    report(
        f"{len(documents)} documents, {len(questions)} questions",
        rows,
        "the same questions have the same answers",
        {
            "same_answers": round(found["same"], 4),
            "hnsw_recall": graph["recall"],
            **{
                f"{prefix}{what}_p50_ratio": round(found[what][name].median / found[what]["sqlite"].median, 3)
                for prefix, name in (("", "postgresql"), ("database_", "database"))
                for what in ("ask", "search")
            },
            "ingest_ratio": round(taken["postgresql"] / taken["sqlite"], 3),
            "database_ingest_ratio": round(taken["database"] / taken["sqlite"], 3),
            "hnsw": {**graph, "sentences": len(sentences)},
            "documents": len(documents),
            "questions": len(questions),
        },
    )


if __name__ == "__main__":
    main()
