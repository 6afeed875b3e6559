"""What `POST /ask` costs above its parts: `make bench NAME=ask`.

Sets an answer over HTTP from a real server process beside bare calls of what it rests on (encode the question, search
a FAISS index of the same chunks, read the same passages), question by question in one run, with the service's own
embedder and reader. No question comes twice: the service keeps the vectors of those it has seen. The figure is the p50
over HTTP minus the sum of the parts' p50s: everything the service adds, from sockets to citations.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from adapters.engine import Done, Event, Failed, Row
from adapters.reader import ReaderEngine
from adapters.squad import read_squad
from adapters.template import Passage
from app.client import LorebaseClient
from app.evaluation import documents_of, read_articles
from app.local_server import local_server
from app.schemas import PassageResponse
from benchmarks.measure import Spread, parse_arguments, report
from ingest import make_embedder

BOUND_MS = 10.0
TOP_K = 5
_WARM_UP = 5
_REST_SECONDS = 0.01  # lets the threads of the way before come to rest
_SIZES = {True: (1, 25), False: (12, 200)}  # quick: articles, questions

Result = TypeVar("Result")
Vectors = NDArray[np.float32]


class Parts:
    """The bare calls an answer rests on, each behind one small function."""

    def __init__(self, chunks: Sequence[str]) -> None:
        self._encoder = make_embedder()
        self._reader = ReaderEngine()
        self._reader.load()
        vectors = self._encoder.encode(list(chunks))  # [chunks, dim]
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def encode(self, question: str) -> Vectors:
        """A question's unit vector, [1, dim]."""
        return self._encoder.encode([question])

    def find(self, vector: Vectors) -> Any:
        """The nearest chunks' numbers and scores."""
        return self._index.search(vector, TOP_K)

    def read(self, question: str, passages: Sequence[PassageResponse]) -> Event:
        """The reader's answer from the passages, through the engine seam."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._reader.submit(Row(question, tuple(Passage(p.text, p.title) for p in passages)), events.put)
        while not isinstance(event := events.get(), Done | Failed):
            pass
        return event

    def close(self) -> None:
        """Stop the reader's thread."""
        self._reader.close()


class Stopwatch:
    """Milliseconds of each way, by name."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Result]) -> Result:
        """Do the work and keep how long it took."""
        began = time.perf_counter()
        result = work()
        self.taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return result


def ask_over_http(client: LorebaseClient, question: str, watch: Stopwatch) -> list[PassageResponse]:
    """One answer over HTTP; the passages it was read from."""
    response = watch.time("http", lambda: client.ask(question, top_k=TOP_K))
    watch.taken.setdefault("server", []).append(response.timings_ms["total"])
    return response.passages


def ask_the_parts(parts: Parts, question: str, passages: Sequence[PassageResponse], watch: Stopwatch) -> None:
    """The same work as bare calls."""
    vector = watch.time("encode", lambda: parts.encode(question))
    watch.time("search", lambda: parts.find(vector))
    watch.time("read", lambda: parts.read(question, passages))


def measure(client: LorebaseClient, parts: Parts, questions: Sequence[str]) -> Stopwatch:
    """Ask every question once over HTTP, so that its vector cannot come from a cache, then of the parts."""
    watch = Stopwatch()
    for i, question in enumerate(questions):
        taken = Stopwatch() if i < _WARM_UP else watch
        time.sleep(_REST_SECONDS)
        passages = ask_over_http(client, question, taken)
        time.sleep(_REST_SECONDS)
        ask_the_parts(parts, question, passages, taken)
    return watch


def main() -> None:
    """Run the measurement."""
    arguments = parse_arguments(
        "What POST /ask costs above its parts.", default_set="squad-v1.1-dev36.json", repeats=3, quick_repeats=1
    )
    most_articles, most_questions = _SIZES[arguments.quick]
    articles = dict(list(read_articles(arguments.data).items())[:most_articles])
    asked = [q.question for q in read_squad(arguments.data) if q.article in articles]
    asked = list(dict.fromkeys(asked))
    wanted = _WARM_UP + most_questions * arguments.repeats
    questions = random.Random(0).sample(asked, min(wanted, len(asked)))
    with local_server() as server, server.client() as client:
        stored = client.ingest_texts(
            [{"title": d.title, "text": d.text} for d in documents_of(articles, "article")]
        ).documents
        chunks = [chunk.text for document in stored for chunk in client.chunks(document.id)]
        parts = Parts(chunks)
        try:
            watch = measure(client, parts, questions)
        finally:
            parts.close()
    show(watch, len(questions) - _WARM_UP, len(chunks))


def show(watch: Stopwatch, questions: int, chunks: int) -> None:
    """Print the table and the figure."""
    spreads = {name: Spread.of(values) for name, values in watch.taken.items()}
    bare = sum(spreads[name].median for name in ("encode", "search", "read"))
    overhead = spreads["http"].median - bare
    names = {
        "encode": "bare: encode the question",
        "search": "bare: search the index",
        "read": "bare: read the passages",
        "http": "POST /ask, as the client sees it",
        "server": "POST /ask, as the server says",
    }
    rows = [(text, str(spreads[name]), "ms") for name, text in names.items()]
    rows.append(("http minus the bare parts", f"{overhead:.2f}", "ms"))
    report(
        f"POST /ask: {questions} questions, {chunks} chunks, {TOP_K} passages",
        rows,
        f"The bound: at most {BOUND_MS:.0f} ms above the parts: {'kept' if overhead <= BOUND_MS else 'NOT kept'}.",
        {
            "http_overhead_ms_p50": round(overhead, 2),
            "http_ms_p50": round(spreads["http"].median, 2),
            **{f"{name}_ms_p50": round(spreads[name].median, 3) for name in ("encode", "search", "read", "server")},
            "questions": questions,
            "chunks": chunks,
        },
    )


if __name__ == "__main__":
    main()
