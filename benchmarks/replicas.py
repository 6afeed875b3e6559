"""One process on a PostgreSQL database beside two: `make bench NAME=replicas`.

Two real server processes, each computing with one thread, on one database that the package `pgserver` runs. The same
number of questions is asked of one of them, and of both by turns, turn by turn; and documents of many tenants are
ingested before the second one starts, and as many after. `ask_ratio` and `ingest_ratio`: the work done in a second by
two against one. `ask_cpu_ratio` and `ingest_cpu_ratio`: processor seconds for the same work, of all servers and
PostgreSQL, two against one. `ask_cores_one` and `ask_cores_two`: processors kept busy meanwhile, clients not counted;
where two cores are all there are, clients, PostgreSQL and both servers share them, and that bounds the ratios.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from adapters.squad import read_squad
from app.client import LorebaseClient
from app.client.requests.documents import Text
from app.evaluation import documents_of, read_articles
from app.local_server import LocalServer, local_server
from benchmarks.database_search import postgresql
from benchmarks.measure import interleaved, parse_arguments, report

_SIZES = {True: (2, 80, 4), False: (6, 320, 12)}  # quick: articles, questions a turn, tenants
_CLIENTS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """What some work took: seconds by the clock, and of processors, of servers and database."""

    seconds: float
    processor: float


class Processes:
    """Processes whose processor time is counted, with all that they started."""

    def __init__(self, url: str) -> None:
        place = Path(parse_qs(urlsplit(url).query)["host"][0])
        self._pids = [int((place / "postmaster.pid").read_text().split()[0])]

    def add(self, server: LocalServer) -> None:
        """Count a server too."""
        self._pids.append(server.process.pid)

    def work(self, do: Callable[[], None]) -> Work:
        """What it takes to do something."""
        began, used = time.perf_counter(), self._processor_seconds()
        do()
        return Work(time.perf_counter() - began, self._processor_seconds() - used)

    def _processor_seconds(self) -> float:
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                told = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            pid = int(path.parent.name)
            parents[pid] = int(told[1])
            ticks[pid] = sum(map(int, told[11:15]))  # its own, and that of children that have ended
        return sum(spent for pid, spent in ticks.items() if self._is_counted(pid, parents)) / _TICKS

    def _is_counted(self, pid: int, parents: dict[int, int]) -> bool:
        while pid and pid not in self._pids:
            pid = parents.get(pid, 0)
        return pid in self._pids


def ask(clients: Sequence[LorebaseClient], questions: Sequence[str]) -> None:
    """Ask all questions, so many at a time, of the clients by turns."""
    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(lambda each: each[0].ask(each[1]), zip(itertools.cycle(clients), questions)))


def ingest(url: str, keys: Sequence[str], documents: Sequence[Text]) -> None:
    """Give every tenant the documents, at one server, and wait until all can be asked."""

    def one(key: str) -> None:
        with LorebaseClient(url, key) as client:
            client.ingest_texts(documents)

    with ThreadPoolExecutor(len(keys)) as pool:
        list(pool.map(one, keys))


def main() -> None:
    """Run the measurement."""
    arguments = parse_arguments(
        "One process on a PostgreSQL database beside two.", default_set="squad-v1.1-dev36.json", repeats=5,
        quick_repeats=2,
    )  # fmt: skip
    most_articles, most_questions, tenants = _SIZES[arguments.quick]
    articles = dict(list(read_articles(arguments.data).items())[:most_articles])
    asked = list(dict.fromkeys(q.question for q in read_squad(arguments.data) if q.article in articles))
    documents: list[Text] = [{"title": d.title, "text": d.text} for d in documents_of(articles, "paragraph")[:50]]
    questions = [question for question, _ in zip(itertools.cycle(asked), range(most_questions), strict=False)]
    with ExitStack() as stack:
        url = stack.enter_context(postgresql())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lorebase-replicas-"))
        processes = Processes(url)

        def start() -> LocalServer:
            environment = {"LOREBASE_DATABASE_URL": url, "OMP_NUM_THREADS": "1"}
            server = stack.enter_context(
                local_server(environment=environment, default_key="the-same-for-both", data=Path(folder) / "data")
            )
            processes.add(server)
            return server

        def keys(server: LocalServer, name: str) -> list[str]:
            with server.admin() as admin:
                return [admin.create_tenant(f"{name} {n}").api_key for n in range(tenants)]

        first = start()
        ingest(first.url, [first.default_key], documents)
        mine = keys(first, "one")
        ingested = {"one": processes.work(lambda: ingest(first.url, mine, documents))}
        second = start()
        theirs = keys(second, "two")
        ingested["two"] = processes.work(lambda: ingest(first.url, theirs, documents))
        clients = [stack.enter_context(server.client()) for server in (first, second)]
        ask(clients, questions[:20])
        spent: dict[str, list[Work]] = {"one": [], "two": []}

        def turn(name: str, of: Sequence[LorebaseClient]) -> float:
            spent[name].append(processes.work(lambda: ask(of, questions)))
            return len(questions) / spent[name][-1].seconds

        rates = interleaved(
            {"one": lambda: turn("one", clients[:1]), "two": lambda: turn("two", clients)}, arguments.repeats
        )
    answers = {name: statistics.median(values) for name, values in rates.items()}
    processor = {name: statistics.median(each.processor for each in works) for name, works in spent.items()}
    cores = {name: statistics.median(each.processor / each.seconds for each in works) for name, works in spent.items()}
    rows = [(f"answers, {name}", f"{answers[name]:.1f}", "/s") for name in answers]
    for name, seconds in processor.items():
        rows.append((f"processor time of an answer, {name}", f"{1000 * seconds / len(questions):.1f}", "ms"))
        rows.append((f"processors busy while asked, {name}", f"{cores[name]:.2f}", ""))
    for name, work in ingested.items():
        rows.append((f"ingestion, {name}", f"{work.seconds:.1f} ({work.processor:.1f} of processors)", "s"))
    report(
        f"{len(questions)} questions a turn, {tenants} tenants with {len(documents)} documents each",
        rows,
        "two processes cost hardly more processor time than one",
        {
            "ask_ratio": round(answers["two"] / answers["one"], 3),
            "ask_cpu_ratio": round(processor["two"] / processor["one"], 3),
            "ask_cores_one": round(cores["one"], 2),
            "ask_cores_two": round(cores["two"], 2),
            "ingest_ratio": round(ingested["one"].seconds / ingested["two"].seconds, 3),
            "ingest_cpu_ratio": round(ingested["two"].processor / ingested["one"].processor, 3),
        },
    )


if __name__ == "__main__":
    main()
