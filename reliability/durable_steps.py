"""Runs the service in a process that counts its durable steps, and kills itself with SIGKILL at one of them.

A step is a commit or another write of SQLite that stands, or a rename, fsync, link or deletion of a file by the code of
the service. It is named by what it does and by the function that does it, so that the same step is met in another run.
The service knows nothing of this: the standard library's functions are wrapped in that process alone.

Processes are forked from one that has imported the libraries already (`multiprocessing`'s fork server), which makes a
start cost a tenth of what it does otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

_PRELOADED = [
    "reliability.durable_steps", "app.server", "app.training_jobs", "adapters.reader", "torch", "peft", "openvino",
    "faiss", "sentence_transformers", "transformers.models.bert.modeling_bert", "safetensors.numpy", "uvloop",
    "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.websockets_sansio_impl",
    "anyio._backends._asyncio", "reliability.frozen",
]  # fmt: skip
ANY = "any step"
_OURS = ("app.", "ingest.", "adapters.")
_SEAM = "ingest.database"  # who asked it to commit is what names the step
_FILE_STEPS = ("replace", "rename", "fsync", "fdatasync", "unlink", "remove", "rmdir", "link", "mkdir")
_STATEMENTS = ("COMMIT", "VACUUM", "CREATE", "PRAGMA JOURNAL_MODE", "PRAGMA WAL_CHECKPOINT")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One durable step: the ``count``-th time (from 1) that a process does what ``name`` says; `ANY` is any of them."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name} ({self.count})"


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is to kill itself: right before a step, or right behind it."""

    step: Step
    when: Literal["before", "behind"]


def start(
    environment: Mapping[str, str], log: Path, steps: Path | None = None, kill: Kill | None = None
) -> multiprocessing.process.BaseProcess:
    """Start the service in a process of its own, which ends with this one.

    Args:
        environment: its settings.
        log: the file its output is added to.
        steps: a file to which the name of each step is added, a line each, as it is done.
        kill: where it is to end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_serve, args=(dict(environment), log, steps, kill), daemon=True)
    process.start()
    return process


def read_steps(path: Path) -> list[Step]:
    """The steps that a process has written down, in their order."""
    seen: Counter[str] = Counter()
    steps = []
    for name in path.read_text().splitlines():
        seen[name] += 1
        steps.append(Step(name, seen[name]))
    return steps


def _serve(environment: dict[str, str], log: Path, steps: Path | None, kill: Kill | None) -> None:
    os.environ.update(environment)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _Counted(steps, kill).install()
    from app.server import serve
    from app.settings import Settings

    sys.exit(serve(Settings()))


class _Counted:
    """Counts what is done, by name; ends the process at the one it is to end at."""

    def __init__(self, steps: Path | None, kill: Kill | None) -> None:
        self._told = None if steps is None else steps.open("a", buffering=1)
        self._kill = kill
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def install(self) -> None:
        """Wrap what takes durable steps, from now on."""
        for name in _FILE_STEPS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        counted = self
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                said = " ".join(sql.split()[:3]).upper()
                kind = next((each for each in _STATEMENTS if said.startswith(each)), None)
                if kind is None or (kind == "CREATE" and self.in_transaction):
                    return super().execute(sql, *parameters)
                return counted.step(kind.lower(), lambda: super(Connection, self).execute(sql, *parameters))

            def commit(self) -> None:
                counted.step("commit", super().commit)

            def __exit__(self, *error: Any) -> Literal[False]:
                return counted.step("commit", lambda: super(Connection, self).__exit__(*error))

            def close(self) -> None:
                counted.step("close", super().close)

        def connect_counted(*given: Any, **named: Any) -> sqlite3.Connection:
            return connect(*given, **{"factory": Connection, **named})

        sqlite3.connect = connect_counted  # type: ignore[assignment]

    def step(self, kind: str, do: Callable[[], T]) -> T:
        """Do a step, unless the process is to end before it."""
        who = _who()
        if who is None:
            return do()
        name = f"{kind} {who}"
        with self._lock:
            self._seen.update((name, ANY))
            steps = (Step(name, self._seen[name]), Step(ANY, self._seen[ANY]))
            if self._told is not None:
                self._told.write(f"{name}\n")
        last = self._kill.when if self._kill is not None and self._kill.step in steps else None
        if last == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = do()
        if last == "behind":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    def _wrapped(self, kind: str, do: Callable[..., T]) -> Callable[..., T]:
        return lambda *given, **named: self.step(kind, lambda: do(*given, **named))


def _who() -> str | None:
    """The function of the service at work, but for the one place that commits; None where it is not the service's."""
    frame = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_OURS) and module != _SEAM:
            return f"{module}.{frame.f_code.co_qualname}"
        frame = frame.f_back  # type: ignore[assignment]
    return None
