"""A data folder that takes nothing more: full, then every write refused by the system, then as before.

The folder is a small file system in memory, in a mount namespace of the server's own, which this user may make where
the system lets it; elsewhere the row cannot be run. Writers are answered 507, questions go on, and everything recovers
by itself; what was acknowledged stays.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from app.local_server import LocalServer, local_server
from reliability.acknowledged import settle
from reliability.outcome import NotPossible, Outcome

_SIZE = "32m"
_RECOVERY_SECONDS = 90.0
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_QUESTION = {"question": "When was the lighthouse built?", "top_k": 3, "min_confidence": 0}


def run(*, seed: int = 1, rounds: int = 3) -> Outcome:
    """Fill the folder and free it, have every write refused and allowed again, so many times."""
    outcome = Outcome()
    outcome.figures |= {"refused": 0, "done": 0}
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
                kept = [_ingest(client, "The lighthouse was built in 1874.").json()["documents"][0]["id"]]
                for number in range(rounds):
                    kept.append(_full(client, inside, outcome, f"{seed} {number}"))
                    kept.append(_refused(client, server, outcome, f"{seed} {number}"))
                settle(client)
                listed = {d["id"]: d for d in client.get("/documents", params={"limit": 1000}).json()["documents"]}
                outcome.check(set(kept) <= listed.keys(), f"documents after all: {listed}, kept: {kept}")
                outcome.check({d["status"] for d in listed.values()} == {"ready"}, f"documents after all: {listed}")
            outcome.check(outcome.figures["refused"], "nothing was refused: this row could not fail")
            outcome.check("unexpected error" not in server.log.read_text(), "an unexpected error stands in the log")
    return outcome


def _full(client: httpx.Client, inside: Path, outcome: Outcome, name: str) -> str:
    """The id of the document that is taken afterwards."""
    filler = inside / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    _refuses(client, outcome, f"full {name}")
    filler.unlink()
    return _recovers(client, outcome, f"After the disk was full: {name}.")


def _refused(client: httpx.Client, server: LocalServer, outcome: Outcome, name: str) -> str:
    """The id of the document that is taken afterwards."""
    pid = server.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
    try:
        _refuses(client, outcome, f"refusing {name}")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    return _recovers(client, outcome, f"After every write was refused: {name}.")


def _refuses(client: httpx.Client, outcome: Outcome, state: str) -> None:
    """Writers are refused and told why; what finds room in files that are long enough already is done, and there."""
    example = json.dumps({"question": f"{state}?", "answer": "A"}).encode() + b"\n"
    writers = {
        "ingest": client.post(
            "/ingest", json={"documents": [{"text": f"A text that has no room: {state}. " * 20_000}]}
        ),
        "template": client.put("/templates/t", json={"system": f"{state} {'x' * 3000}"}),
        "dataset": client.post("/datasets", files={"file": ("a.jsonl", example * 2000)}),
    }
    for writer, answer in writers.items():
        said = f"{state}, {writer}: {answer.status_code} {answer.text[:200]}"
        if answer.is_success:
            outcome.figures["done"] += 1
            outcome.check(_is_there(client, writer, answer.json()), said)
        else:
            outcome.figures["refused"] += 1
            outcome.check(answer.status_code == 507 and answer.json()["code"].startswith("storage_"), said)
    goes_on(client, outcome, state)


def _is_there(client: httpx.Client, writer: str, made: Any) -> bool:
    """Whether what a writer was told is done can be read."""
    match writer:
        case "ingest":
            return client.get(f"/documents/{made['documents'][0]['id']}").is_success
        case "template":
            return bool(client.get("/templates/t").json()["system"] == made["system"])
    return client.get(f"/datasets/{made['id']}/examples").is_success


def goes_on(client: httpx.Client, outcome: Outcome, state: str) -> None:
    """Questions are answered, and nothing ends in a 500."""
    asked = client.post("/ask", json=_QUESTION)
    outcome.check(asked.status_code == 200 and "1874" in asked.text, f"{state}, ask: {asked.text[:200]}")
    for path in ("/documents", "/jobs", "/readyz", "/livez"):
        answer = client.get(path)
        outcome.check(answer.status_code == 200, f"{state}, {path}: {answer.status_code} {answer.text[:200]}")


def _recovers(client: httpx.Client, outcome: Outcome, text: str) -> str:
    """A document is taken, and becomes ready; its id."""
    began = time.monotonic()
    while (answer := _ingest(client, text)).status_code != 200 and time.monotonic() - began < _RECOVERY_SECONDS:
        time.sleep(0.5)
    document = answer.json().get("documents", [{}])[0]
    outcome.check(document.get("status") == "ready", f"not recovered: {answer.status_code} {answer.text[:200]}")
    outcome.largest("recovery_s", time.monotonic() - began)
    return str(document.get("id"))


def _ingest(client: httpx.Client, text: str) -> httpx.Response:
    return client.post("/ingest", params={"wait": "true"}, json={"documents": [{"text": text}]})
