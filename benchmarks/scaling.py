"""From one machine's figures to many machines: `make bench NAME=scaling`.

Measures a real server on this machine: questions a second when it is never idle, chunks a second, and bytes of a chunk
on disk. Then does the arithmetic for so many tenants, chunks and questions a second, and lets a simulated cluster
(`benchmarks.cluster_model`) of that size answer, by tenant and by turns. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.squad import read_squad
from app.evaluation import documents_of, read_articles
from app.local_server import LocalServer, local_server
from benchmarks.cluster_model import Cluster, machines_needed, simulate
from benchmarks.measure import DATA, report

_SET = "squad-v1.1-dev36.json"
_AT_ONCE = 16  # questions that are always under way
_SIZES = {True: (2, 60), False: (12, 600)}  # quick: articles, questions
_SIMULATED = {True: 20_000, False: 100_000}  # questions
_INDEX_BYTES = 1_540  # of a chunk in memory in a tenant of 1,000; 2,061 with lists: benchmarks.search_scale
_OPEN_SECONDS = 6.3e-6  # to open an index, for each of its chunks: benchmarks.search_scale
_LOAD = 0.7  # of what a machine can do that is used
_WITHIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class OneMachine:
    """What was measured.

    Attributes:
        answers: a second, with so many questions under way that it is never idle.
        chunks: ingested in a second.
        disk_bytes: of the data folder, for each chunk.
    """

    processors: int
    answers: float
    chunks: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the arithmetic says."""

    machines: int
    memory_gib: float
    disk_gib: float
    embedding_processor_hours: int
    cost_of_1000_answers: float


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="From one machine's figures to many machines.")
    parser.add_argument("--data", type=Path, default=DATA, help=f"a SQuAD-format file, or the folder of {_SET}")
    parser.add_argument("--quick", action="store_true", help="less than a minute, with more noise")
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=100_000_000, help="of all tenants together")
    parser.add_argument("--per-second", type=float, default=1000.0, help="questions")
    parser.add_argument("--machine-hour", type=float, default=0.1, help="price of a machine like this one for an hour")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB for indexes on each machine")
    given = parser.parse_args()
    file = given.data / _SET if given.data.is_dir() else given.data
    if not file.is_file():
        parser.error(f"no such file: {os.path.relpath(file)}. Give a SQuAD-format file, or its folder, with --data.")
    one = measure(file, *_SIZES[given.quick])
    plan = arithmetic(one, given.chunks, given.per_second, given.machine_hour)
    of_tenant = given.chunks / given.tenants
    cluster = Cluster(
        plan.machines,
        places=one.processors,
        service_seconds=one.processors / one.answers,
        resident=max(1, int(given.memory * 1024**3 / (of_tenant * _INDEX_BYTES))),
        open_seconds=of_tenant * _OPEN_SECONDS,
        tenants=given.tenants,
    )
    questions = _SIMULATED[given.quick]
    by_tenant = simulate(cluster, given.per_second, questions)
    by_turns = simulate(Cluster(**{**asdict(cluster), "routing": "by turns"}), given.per_second, questions)
    needed = machines_needed(cluster, given.per_second, _WITHIN_SECONDS, questions)
    rows = [
        (f"answers, {_AT_ONCE} under way", f"{one.answers:.1f}", f"/s on {one.processors} processors"),
        ("ingestion", f"{one.chunks:.1f}", f"chunks/s on {one.processors} processors"),
        ("data folder", f"{one.disk_bytes:,.0f}", "bytes a chunk"),
        (f"machines like this for {given.per_second:,.0f}/s, {_LOAD:.0%} used", f"{plan.machines:,}", ""),
        ("all indexes in memory", f"{plan.memory_gib:,.0f}", "GiB"),
        ("all data on disk", f"{plan.disk_gib:,.0f}", "GiB"),
        ("embedding everything", f"{plan.embedding_processor_hours:,.0f}", "processor hours"),
        ("1,000 answers", f"{plan.cost_of_1000_answers:.4f}", f"at {given.machine_hour} a machine hour"),
        *(
            (f"simulated, {name}: p95, indexes opened", f"{o.answered_within(0.95):.2f} s, {o.opened:.1%}", "")
            for name, o in (("by tenant", by_tenant), ("by turns", by_turns))
        ),
        (f"simulated: machines for p95 ≤ {_WITHIN_SECONDS:g} s", f"{needed:,}", ""),
    ]  # fmt: skip
    report(
        f"{given.tenants:,} tenants, {given.chunks:,} chunks, {given.per_second:,.0f} questions a second",
        rows,
        "The arithmetic holds where the simulated machines, by tenant, are no more than its own.",
        {
            **asdict(one),
            **asdict(plan),
            "by_tenant_p95_s": round(by_tenant.answered_within(0.95), 3),
            "by_tenant_opened": round(by_tenant.opened, 4),
            "by_turns_p95_s": round(by_turns.answered_within(0.95), 3),
            "by_turns_opened": round(by_turns.opened, 4),
            "machines_simulated": needed,
            "simulated_vs_arithmetic": round(needed / plan.machines, 3),
        },
    )


def measure(file: Path, articles: int, questions: int) -> OneMachine:
    """Ingest articles into a real server, then ask with `_AT_ONCE` questions under way."""
    chosen = dict(list(read_articles(file).items())[:articles])
    asked = list(dict.fromkeys(q.question for q in read_squad(file) if q.article in chosen))
    random.Random(0).shuffle(asked)
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        with local_server(data=Path(folder)) as server, server.client() as client:
            client.ingest_texts([{"title": "Warm", "text": "It is warm."}])
            begun = time.perf_counter()
            client.ingest_texts([{"title": d.title, "text": d.text} for d in documents_of(chosen, "article")])
            ingesting = time.perf_counter() - begun
            chunks = sum(document.chunks or 0 for document in client.documents(limit=1000).documents)
            client.ask(asked.pop())
            answers = _answers_per_second(server, asked[:questions])
        disk = sum(path.stat().st_size for path in (Path(folder) / "tenants").rglob("*") if path.is_file())
        return OneMachine(os.cpu_count() or 1, round(answers, 2), round(chunks / ingesting, 2), round(disk / chunks))


def arithmetic(one: OneMachine, chunks: int, per_second: float, machine_hour: float) -> Plan:
    """Machines, memory, disk and cost, from what one machine does."""
    machines = math.ceil(per_second / (one.answers * _LOAD))
    return Plan(
        machines,
        round(chunks * _INDEX_BYTES / 1024**3, 1),
        round(chunks * one.disk_bytes / 1024**3, 1),
        round(chunks / one.chunks * one.processors / 3600),
        round(machine_hour / (one.answers * _LOAD * 3600) * 1000, 5),
    )


def _answers_per_second(server: LocalServer, questions: Sequence[str]) -> float:
    with server.client() as client, ThreadPoolExecutor(_AT_ONCE) as askers:
        begun = time.perf_counter()
        list(askers.map(client.ask, questions))
        return len(questions) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
