"""What a `kill -9` costs: `python -m benchmarks.crash`.

Each round starts a real server process on the same data folder, checks everything that was acknowledged so far, lets a
client ingest, replace and delete, and kills the process at a random moment. A request that was under way at that moment
may have been done or not; every other must be as it was answered. The random choices follow from the seed; the moments
at which they meet the server's work do not. Ends with status 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.local_server import free_port
from benchmarks.measure import report
from reliability.acknowledged import Documents, Findings, check_database, made_text

_KEY = "the-key-of-the-crash-benchmark"
_READY_SECONDS = 300.0
_FEWEST_DOCUMENTS = 6
_QUICK_ROUNDS = 6
_MOST_DOCUMENTS = 40  # so that a round's checks stay short


@dataclass
class Killed(Findings):
    """What was found wrong, and how long the server took to be ready."""

    worst_ready_s: float = 0.0


def run(rounds: int, seed: int) -> Killed:
    """Kill a server so many times, checking after each; what was found."""
    chance = random.Random(seed)
    documents, findings = Documents(), Killed()
    with tempfile.TemporaryDirectory(prefix="lorebase-crash-") as folder:
        data = Path(folder) / "data"
        for number in range(rounds + 1):
            with _server(data) as (process, client, ready_seconds):
                findings.worst_ready_s = max(findings.worst_ready_s, ready_seconds)
                found = documents.check(client, chance)
                for database in data.glob("tenants/*/lorebase.db"):
                    found.add(check_database(database))
                for reason in found.reasons:
                    print(f"round {number}: {reason}", file=sys.stderr)
                findings.add(found)
                if number < rounds:
                    _work_until_killed(process, client, documents, chance)
                print(f"round {number}: ready after {ready_seconds:.1f} s, {len(documents.known)} documents")
    return findings


@contextmanager
def _server(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client, float]]:
    port = free_port()
    settings = {
        **os.environ, "LOREBASE_DATA": str(data), "LOREBASE_HOST": "127.0.0.1", "LOREBASE_PORT": str(port),
        "LOREBASE_DEFAULT_KEY": _KEY, "LOREBASE_LOG_LEVEL": "error",
    }  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "serve"], env=settings, stdout=subprocess.DEVNULL)
    headers = {"Authorization": f"Bearer {_KEY}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0) as client:
            yield process, client, _wait_until_ready(process, client, began)
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], client: httpx.Client, began: float) -> float:
    while time.monotonic() - began < _READY_SECONDS and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return time.monotonic() - began
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("The server did not become ready.")


def _work_until_killed(
    process: subprocess.Popen[bytes], client: httpx.Client, documents: Documents, chance: random.Random
) -> None:
    """Ingest, replace and delete until a timer kills the server; note what was answered."""
    timer = threading.Timer(chance.uniform(0.02, 2.0), os.kill, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        while True:
            ids = sorted(documents.known)
            action = "ingest" if len(ids) < _FEWEST_DOCUMENTS else chance.choice(("ingest", "replace", "delete"))
            if len(ids) > _MOST_DOCUMENTS:
                action = chance.choice(("replace", "delete"))
            if action == "ingest":
                documents.ingest(client, [made_text(chance) for _ in range(chance.randint(1, 3))])
            elif action == "replace":
                documents.replace(client, chance.choice(ids), made_text(chance))
            else:
                documents.delete(client, chance.choice(ids))
    except httpx.TransportError:
        return
    finally:
        timer.join()
        process.wait()


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Kill a working server again and again, and look for what is lost.")
    parser.add_argument("--rounds", type=int, default=200, help="how many times to kill (default: 200)")
    parser.add_argument("--quick", action="store_true", help=f"less than a minute: {_QUICK_ROUNDS} rounds")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default: 1)")
    given = parser.parse_args()
    rounds = _QUICK_ROUNDS if given.quick else given.rounds
    findings = run(rounds, given.seed)
    result = {
        "rounds": rounds,
        "lost": len(findings.lost),
        "orphans": len(findings.orphans),
        "duplicates": len(findings.duplicates),
        "worst_ready_s": round(findings.worst_ready_s, 2),
    }
    report(
        f"kill -9 during ingest, replace and delete × {rounds}",
        [(name, str(value), "s" if name.endswith("_s") else "") for name, value in result.items()],
        f"The bound: nothing lost, no orphans, no duplicates: {'NOT kept' if findings.reasons else 'kept'}.",
        result,
    )
    sys.exit(1 if findings.reasons else 0)


if __name__ == "__main__":
    main()
