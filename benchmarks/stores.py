"""Rows in SQLite beside rows in PostgreSQL: `make bench NAME=stores`.

Two real server processes on this machine, one on a folder of its own and one on a PostgreSQL server that the package
`pgserver` runs, are given the same documents and asked the same questions in turn. `same_answers`: the share of
questions that both answer alike, with the same cited places; `ask_p50_ratio`: the median of an answer from PostgreSQL
against one from SQLite; `search_p50_ratio` of passages alone; `ingest_ratio`: the time until all documents could be
asked.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from adapters.squad import read_squad
from app.client import LorebaseClient
from app.client.requests.documents import Text
from app.evaluation import documents_of, read_articles
from app.local_server import local_server
from app.schemas import AskResponse
from benchmarks.measure import Spread, parse_arguments, report

_SIZES = {True: (2, 40), False: (6, 150)}  # quick: articles, questions
_WARM_UP = 5
_REST_SECONDS = 0.01


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database of its own on a server that runs within the block."""
    import pgserver
    import psycopg

    with tempfile.TemporaryDirectory(prefix="lorebase-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server runs as a user of its own where this runs as root
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("CREATE ROLE lorebase LOGIN")
                connection.execute("CREATE DATABASE lorebase OWNER lorebase ENCODING 'UTF8' TEMPLATE template0")
            yield f"postgresql://lorebase@/lorebase?host={Path(folder) / 'data'}"
        finally:
            server.cleanup()


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
    """Ask every question of both in turn, then search for as many others."""
    asked: dict[str, list[float]] = {name: [] for name in clients}
    searched: dict[str, list[float]] = {name: [] for name in clients}
    same = 0
    for number, question in enumerate(questions):
        order = list(clients.items())[:: 1 if number % 2 else -1]
        answers = {name: timed(asked[name], partial(client.ask, question)) for name, client in order}
        same += told(answers["sqlite"]) == told(answers["postgresql"])
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
    most_articles, most_questions = _SIZES[arguments.quick]
    articles = dict(list(read_articles(arguments.data).items())[:most_articles])
    asked = list(dict.fromkeys(q.question for q in read_squad(arguments.data) if q.article in articles))
    questions = random.Random(0).sample(asked, min(most_questions, len(asked)))
    documents: list[Text] = [{"title": d.title, "text": d.text} for d in documents_of(articles, "paragraph")]
    with ExitStack() as stack:
        url = stack.enter_context(postgresql())
        clients: dict[str, LorebaseClient] = {}
        taken: dict[str, float] = {}
        for name, settings in (("sqlite", dict[str, str]()), ("postgresql", {"LOREBASE_DATABASE_URL": url})):
            server = stack.enter_context(local_server(environment=settings))
            clients[name] = stack.enter_context(server.client())
            began = time.perf_counter()
            for first in range(0, len(documents), 100):
                clients[name].ingest_texts(documents[first : first + 100])
            taken[name] = time.perf_counter() - began
        found = measure(clients, questions)
    rows = [(f"{what}, {name}", str(found[what][name]), "ms") for what in ("ask", "search") for name in clients]
    rows += [(f"ingest, {name}", f"{seconds:.2f}", "s") for name, seconds in taken.items()]
    report(
        f"{len(documents)} documents, {len(questions)} questions",
        rows,
        "the same questions have the same answers",
        {
            "same_answers": round(found["same"], 4),
            **{
                f"{what}_p50_ratio": round(found[what]["postgresql"].median / found[what]["sqlite"].median, 3)
                for what in ("ask", "search")
            },
            "ingest_ratio": round(taken["postgresql"] / taken["sqlite"], 3),
            "documents": len(documents),
            "questions": len(questions),
        },
    )


if __name__ == "__main__":
    main()
