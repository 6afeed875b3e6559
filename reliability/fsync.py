"""A disk that says of what was written that it may not be there: fsync fails, always or now and then.

A small library in C stands before the system's fsync in the server's process; a file says of how many calls one fails.
Writers are answered 507 or rightly, questions go on, everything recovers by itself, and what was acknowledged is there,
also when the process is killed meanwhile.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from app.local_server import LocalServer, local_server
from reliability.acknowledged import Documents, made_text
from reliability.disk import goes_on
from reliability.outcome import NotPossible, Outcome
from reliability.story import check_files

_ADAPTER = Path(__file__).parent.parent / "examples" / "adapters" / "finance"
_EVERY = (1, 2, 3, 5)  # of so many calls one fails
_ACTIONS = 12
_RECOVERY_S = 90.0
_LIGHTHOUSE = "The lighthouse was built in 1874."
_KEY = "the-key-of-the-default-tenant"
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_int calls;

static int fails(void) {
    const char *path = getenv("FSYNC_FAILS");
    FILE *file = path ? fopen(path, "r") : NULL;
    int every = 0;
    if (!file) return 0;
    if (fscanf(file, "%d", &every) != 1) every = 0;
    fclose(file);
    return every > 0 && atomic_fetch_add(&calls, 1) % every == 0;
}

#define FAILING(name)                                          \
    int name(int handle) {                                     \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (fails()) { errno = EIO; return -1; }               \
        return real(handle);                                   \
    }

FAILING(fsync)
FAILING(fdatasync)
"""


def run(*, seed: int = 1, rounds: int = 10) -> Outcome:
    """Let fsync fail in one server, so many times, and in another one that is killed meanwhile."""
    outcome, chance = Outcome(), random.Random(seed)
    outcome.figures |= {"refused": 0, "done": 0}
    with tempfile.TemporaryDirectory(prefix="lorebase-fsync-") as folder:
        root = Path(folder)
        library = _compiled(root)
        switch = root / "fails"
        settings = {"LD_PRELOAD": str(library), "FSYNC_FAILS": str(switch)}
        data, documents = root / "data", Documents()
        for number in range(rounds):
            with local_server(data=data, environment=settings, default_key=_KEY) as server:
                with _client(server) as client:
                    wrong = documents.check(client, chance).reasons
                    outcome.check(not wrong, f"after a kill: {wrong}")
                    if number == 0:
                        documents.ingest(client, [_LIGHTHOUSE])
                        documents.check(client, chance)
                    _always(client, switch, documents, outcome, chance, f"fsync fails, round {number}")
                    _now_and_then(client, switch, documents, outcome, chance, _EVERY[number % len(_EVERY)])
                    outcome.check("unexpected error" not in server.log.read_text(), "an unexpected error is logged")
                os.kill(server.process.pid, signal.SIGKILL)
                switch.unlink(missing_ok=True)
        with local_server(data=data, environment=settings, default_key=_KEY) as server, _client(server) as client:
            wrong = documents.check(client, chance).reasons + check_files(data)
            outcome.check(not wrong, f"after all: {wrong}")
    return outcome


def _compiled(folder: Path) -> Path:
    """The library; raises NotPossible where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotPossible("there is no C compiler (cc)")
    source, library = folder / "fsync.c", folder / "fsync.so"
    source.write_text(_SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _client(server: LocalServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.default_key}"}, timeout=60)


def _always(
    client: httpx.Client, switch: Path, documents: Documents, outcome: Outcome, chance: random.Random, state: str
) -> None:
    """Every writer is refused, questions are answered; afterwards writers are taken again."""
    listed = client.get("/adapters").text
    switch.write_text("1")
    writers: dict[str, Callable[[], object]] = {
        "ingest": lambda: documents.ingest(client, [made_text(chance)]),
        "template": lambda: client.put("/templates/t", json={"system": "x"}).raise_for_status(),
        "adapter": lambda: _upload(client),
    }
    for writer, send in writers.items():
        answer = _refusal(send)
        outcome.check(answer is not None and answer.status_code == 507, f"{state}, {writer}: {_said(answer)}")
    goes_on(client, outcome, state)
    outcome.check(client.get("/adapters").text == listed, f"{state}: adapters are listed that are not there")
    switch.unlink()
    began = time.monotonic()
    while _refusal(lambda: documents.ingest(client, [made_text(chance)])) and time.monotonic() - began < _RECOVERY_S:
        time.sleep(0.2)
    wrong = documents.check(client, chance).reasons
    outcome.largest("recovery_s", time.monotonic() - began)
    outcome.check(not wrong, f"{state}, recovered: {wrong}")


def _now_and_then(
    client: httpx.Client, switch: Path, documents: Documents, outcome: Outcome, chance: random.Random, every: int
) -> None:
    """What is sent is done or refused."""
    switch.write_text(str(every))
    for _ in range(_ACTIONS):
        some = chance.choice(sorted(each for each, texts in documents.known.items() if texts != {_LIGHTHOUSE}))
        send: Callable[[], object] = chance.choice([
            partial(documents.ingest, client, [made_text(chance)]),
            partial(documents.replace, client, some, made_text(chance)),
            partial(documents.delete, client, some),
            partial(_upload, client),
        ])  # fmt: skip
        answer = _refusal(send)
        outcome.figures["refused" if answer is not None else "done"] += 1
        outcome.check(answer is None or answer.status_code == 507, f"one fsync of {every} fails: {_said(answer)}")
    goes_on(client, outcome, f"one fsync of {every} fails")


def _refusal(send: Callable[[], object]) -> httpx.Response | None:
    try:
        send()
    except httpx.HTTPStatusError as error:
        return error.response
    return None


def _said(answer: httpx.Response | None) -> str:
    return "taken" if answer is None else f"{answer.request.url.path}: {answer.status_code} {answer.text[:200]}"


def _upload(client: httpx.Client) -> None:
    parts = [("files", (path.name, path.read_bytes())) for path in sorted(_ADAPTER.glob("adapter_*"))]
    client.post("/adapters/own/versions", files=parts).raise_for_status()
