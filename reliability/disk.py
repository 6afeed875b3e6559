"""A data folder that takes nothing more: full, then every write refused by the system, then as before.

The folder is a small file system in memory, in a mount namespace of the server's own, which this user may make where
the system lets it; elsewhere the row cannot be run. Writers are answered 507, questions go on, and everything recovers
by itself; what was acknowledged stays.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from app.local_server import LocalServer, local_server
from reliability.outcome import NotPossible, Outcome

_SIZE = "32m"
_RECOVERY_SECONDS = 90.0
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_QUESTION = {"question": "When was the lighthouse built?", "top_k": 3, "min_confidence": 0}


def run(*, seed: int = 1, rounds: int = 3) -> Outcome:
    """Fill the folder and free it, have every write refused and allowed again, so many times."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="lorebase-disk-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        mount = f'mount -t tmpfs -o size={_SIZE} none {data} && exec "$@"'
        if subprocess.run([*_NAMESPACE, "sh", "-c", mount, "-", "true"], capture_output=True, check=False).returncode:
            raise NotPossible("this user may not mount a file system in a namespace of its own")
        with local_server(data=data, wrapper=(*_NAMESPACE, "sh", "-c", mount, "-")) as server:
            inside = Path(f"/proc/{server.process.pid}/root{data}")
            headers = {"Authorization": f"Bearer {server.default_key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
                _ingest(client, "The lighthouse was built in 1874.").raise_for_status()
                for number in range(rounds):
                    _full(client, inside, outcome, f"{seed} {number}")
                    _refused(client, server, outcome, f"{seed} {number}")
                texts = [d["status"] for d in client.get("/documents", params={"limit": 1000}).json()["documents"]]
                outcome.check(texts == ["ready"] * (1 + 2 * rounds), f"documents after all: {texts}")
            outcome.check("unexpected error" not in server.log.read_text(), "an unexpected error stands in the log")
    return outcome


def _full(client: httpx.Client, inside: Path, outcome: Outcome, name: str) -> None:
    filler = inside / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    _refuses(client, outcome, f"full {name}")
    filler.unlink()
    _recovers(client, outcome, f"After the disk was full: {name}.")


def _refused(client: httpx.Client, server: LocalServer, outcome: Outcome, name: str) -> None:
    pid = server.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
    try:
        _refuses(client, outcome, f"refusing {name}")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    _recovers(client, outcome, f"After every write was refused: {name}.")


def _refuses(client: httpx.Client, outcome: Outcome, state: str) -> None:
    """Writers are refused, and told why."""
    long = "A text that has no room. " * 20_000
    writers = {
        "ingest": _ingest(client, long),
        "template": client.put("/templates/t", json={"system": "x" * 3000}),
        "dataset": client.post("/datasets", files={"file": ("a.jsonl", b'{"question": "Q?", "answer": "A"}\n' * 2000)}),
    }
    for writer, answer in writers.items():
        said = f"{state}, {writer}: {answer.status_code} {answer.text[:200]}"
        outcome.check(answer.status_code == 507, said)
        if answer.status_code != 507:
            continue
        outcome.check(answer.json()["code"].startswith("storage_"), said)
    _goes_on(client, outcome, state)


def _goes_on(client: httpx.Client, outcome: Outcome, state: str) -> None:
    """Questions are answered, and nothing ends in a 500."""
    asked = client.post("/ask", json=_QUESTION)
    outcome.check(asked.status_code == 200 and "1874" in asked.text, f"{state}, ask: {asked.text[:200]}")
    for path in ("/documents", "/jobs", "/readyz", "/livez"):
        answer = client.get(path)
        outcome.check(answer.status_code == 200, f"{state}, {path}: {answer.status_code} {answer.text[:200]}")


def _recovers(client: httpx.Client, outcome: Outcome, text: str) -> None:
    """A document is taken, and becomes ready."""
    began = time.monotonic()
    while (answer := _ingest(client, text)).status_code != 200 and time.monotonic() - began < _RECOVERY_SECONDS:
        time.sleep(0.5)
    state = answer.json().get("documents", [{}])[0].get("status")
    outcome.check(state == "ready", f"not recovered: {answer.status_code} {answer.text[:200]}")
    outcome.largest("recovery_s", time.monotonic() - began)


def _ingest(client: httpx.Client, text: str) -> httpx.Response:
    return client.post("/ingest", params={"wait": "true"}, json={"documents": [{"text": text}]})
