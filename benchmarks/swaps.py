"""Promotions and rollbacks under load: `make bench NAME=swaps`.

A real server process with a language model; three versions of one adapter that answer differently; clients that ask
without pause while another promotes and rolls back. Counted are requests that failed and answers from a version that
was not active when the request came in: each answer must name a version whose time of being active overlaps the
request's, and be word for word what that version answers when it is asked for by number.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from app.local_server import local_server
from benchmarks.language_models import ALL_LINEAR, save_adapters, save_model, shapes
from benchmarks.measure import Spread, report

_NAME = "swapped"
_VERSIONS = 3
_TEXT = " ".join(f"w{i}" for i in range(10, 70))
_QUESTION = {"question": "w11 w12 w13", "max_tokens": 8, "min_confidence": 0.0}


@dataclass
class Timeline:
    """Which version was active when, as seen from outside: a change happens between its request and its response."""

    changes: list[tuple[float, float, int]] = field(default_factory=list)  # begun, ended, the version from then on

    def possible(self, begun: float, ended: float) -> set[int]:
        """Versions that may have been active at a moment between ``begun`` and ``ended``."""
        found = set()
        for i, (since, _, version) in enumerate(self.changes):
            until = self.changes[i + 1][1] if i + 1 < len(self.changes) else float("inf")
            if since <= ended and until >= begun:
                found.add(version)
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """One request under load; version and answer are None when it failed."""

    begun: float
    ended: float
    version: int | None
    answer: str | None


def upload(client: httpx.Client, model: Path, folder: Path) -> None:
    """Register the versions."""
    for adapter in save_adapters(model, folder, count=_VERSIONS, rank=8, targets=ALL_LINEAR):
        files = [("files", (name, (adapter.folder / name).read_bytes())) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
        client.post(f"/adapters/{_NAME}/versions", files=files).raise_for_status()


def ask(client: httpx.Client, adapter: str) -> Asked:
    """One request; any answer but 200 counts as failed."""
    begun = time.monotonic()
    try:
        response = client.post("/ask", json=_QUESTION, headers={"X-Adapter": adapter})
        body = response.json() if response.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        body = None
    ended = time.monotonic()
    if body is None:
        return Asked(begun, ended, None, None)
    return Asked(begun, ended, int(body["adapter"]["version"]), str(body["answer"]))


def swap(client: httpx.Client, timeline: Timeline, count: int) -> list[float]:
    """Promote and roll back ``count`` times in all; the milliseconds each took."""
    chance = random.Random(0)
    taken: list[float] = []
    while len(taken) < count:
        active = timeline.changes[-1][2]
        back = len(taken) % 2 == 1
        wanted = chance.choice([v for v in range(1, _VERSIONS + 1) if v != active])
        begun = time.monotonic()
        if back:
            response = client.post(f"/adapters/{_NAME}/rollback")
        else:
            response = client.post(f"/adapters/{_NAME}/promote", json={"version": wanted})
        ended = time.monotonic()
        response.raise_for_status()
        timeline.changes.append((begun, ended, int(response.json()["version"])))
        taken.append((ended - begun) * 1000)
    return taken


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Promotions and rollbacks under load.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: 100 changes")
    parser.add_argument("--swaps", type=int, help="changes (default: 1000, quick: 100)")
    parser.add_argument("--clients", type=int, default=4, help="that ask at once")
    given = parser.parse_args()
    count = given.swaps or (100 if given.quick else 1000)
    asked: list[Asked] = []
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        model = save_model(shapes()["3M"], Path(folder) / "model")
        with local_server(environment={"LOREBASE_MODEL": str(model)}) as server:
            headers = {"Authorization": f"Bearer {server.default_key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
                document = {"documents": [{"title": "w10", "text": _TEXT}]}
                client.post("/ingest", params={"wait": "true"}, json=document).raise_for_status()
                upload(client, model, Path(folder))
                expected = {v: ask(client, f"{_NAME}@{v}").answer for v in range(1, _VERSIONS + 1)}
                if len(set(expected.values())) < _VERSIONS or None in expected.values():
                    raise SystemExit(f"The versions cannot be told apart by their answers: {expected}")
                begun = time.monotonic()
                client.post(f"/adapters/{_NAME}/promote", json={"version": 1}).raise_for_status()
                timeline = Timeline([(begun, time.monotonic(), 1)])
                over = threading.Event()

                def load() -> None:
                    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as own:
                        while not over.is_set():
                            asked.append(ask(own, _NAME))

                threads = [threading.Thread(target=load) for _ in range(given.clients)]
                for thread in threads:
                    thread.start()
                try:
                    taken = swap(client, timeline, count)
                finally:
                    over.set()
                    for thread in threads:
                        thread.join()
    answered = [a for a in asked if a.version is not None]
    wrong = [
        a for a in answered if a.version not in timeline.possible(a.begun, a.ended) or a.answer != expected[a.version]
    ]
    seen = {v: sum(a.version == v for a in answered) for v in expected}
    latencies = [(a.ended - a.begun) * 1000 for a in answered]
    report(
        f"{count} promotions and rollbacks while {given.clients} clients ask",
        [
            ("a change", str(Spread.of(taken)), "ms"),
            ("an answer", str(Spread.of(latencies)), "ms"),
            *((f"answers of version {v}", str(n), "") for v, n in seen.items()),
        ],
        "To reach: no request failed, no answer from a version the request did not start with.",
        {
            "swaps": len(taken),
            "requests": len(asked),
            "failed": len(asked) - len(answered),
            "wrong_version": len(wrong),
            "swap_ms_p50": round(median(taken), 2),
            "answer_ms_p50": round(median(latencies), 1),
        },
    )


if __name__ == "__main__":
    main()
