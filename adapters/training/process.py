"""Training in a child process with a model of its own, so that a run can neither slow, exhaust nor crash the service.

Knows how the child is started, followed, limited and ended; what it does inside is ``adapters.training.child``. The
child is a fresh interpreter. It ends when this process does, and goes on from its checkpoint when started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.errors import InvalidTrainingData
from adapters.training.data import Objective
from adapters.training.settings import TrainingConfig

_BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from adapters.training.child import main; main()"
_POLL_SECONDS = 0.1
LOG_FILE = "child.log"
TOO_LITTLE_MEMORY = (
    "The training needs more memory than it may have. Take a smaller batch_size or max_length, another method, or "
    "raise LOREBASE_TRAINING_MEMORY_MB."
)
_WORDS_FOR_IT = ("allocate memory", "memory allocation", "not enough memory", "out of memory", "bad_alloc",
                 "failed to map segment")  # fmt: skip


class TrainingFailed(Exception):
    """The child did not finish; the message says why, and what to do."""


class TrainingBroke(TrainingFailed):
    """The child ended without a word: another one may go on from its checkpoint."""


@dataclass(frozen=True)
class TrainingSpec:
    """What a child is to do.

    Attributes:
        folder: holds ``examples.jsonl``; the adapter goes to ``output`` in it.
        model, dtype: the base, as the service's settings name it.
        expected_base: hash of the base the run was asked for.
        niceness: how far the child stands back behind others for the processor, 0 to 19.
        memory_bytes: what the child may have of memory of its own.
    """

    folder: Path
    config: TrainingConfig
    objective: Objective
    model: str
    dtype: str
    expected_base: str
    threads: int = 1
    niceness: int = 10
    memory_bytes: int = 8 * 1024**3
    checkpoint_seconds: float = 15.0

    @property
    def examples(self) -> Path:
        return self.folder / "examples.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / "output"


class TrainingProcess:
    """A child at work on a spec. Use it as a context manager: leaving ends the child."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._spec = spec
        with (spec.folder / LOG_FILE).open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter on a constant program
                [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(spec.threads),
                start_new_session=True,  # a Ctrl-C at the terminal is for the service
            )
        fields = {**asdict(spec), "folder": str(spec.folder), "parent": os.getpid()}
        assert self._child.stdin is not None  # noqa: S101 - opened as a pipe above
        with contextlib.suppress(OSError):  # a child that failed to start shows at the first event
            self._child.stdin.write(json.dumps(fields).encode())
            self._child.stdin.close()

    def __enter__(self) -> TrainingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def events(self, seconds: float, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """What the child tells, in order: ``stage``, ``progress``, and at last ``done``.

        Args:
            seconds: how long the child may take from now.
            check: called several times a second; what it raises ends the waiting.

        Raises:
            InvalidTrainingData: the child refused the examples or the settings.
            TrainingFailed: it ran out of time or memory, or broke (TrainingBroke).
        """
        deadline = time.monotonic() + seconds
        for line in self._lines(deadline, check):
            event = json.loads(line)
            if event["event"] == "refused":
                raise InvalidTrainingData(event["message"])
            if event["event"] == "failed":
                raise TrainingFailed(event["message"])
            is_done = event["event"] == "done"
            yield event
            if is_done:
                return
        if tells_of_memory(self.last_words()):  # some libraries end the process themselves
            raise TrainingFailed(TOO_LITTLE_MEMORY)
        raise TrainingBroke(self._how_it_ended())

    def _lines(self, deadline: float, check: Callable[[], None]) -> Iterator[bytes]:
        assert self._child.stdout is not None  # noqa: S101 - opened as a pipe above
        handle, held = self._child.stdout.fileno(), b""
        waiting = select.poll()  # select() takes no descriptor above 1023, and a service of many tenants has them
        waiting.register(handle, select.POLLIN)
        while True:
            check()
            if time.monotonic() > deadline:
                raise TrainingFailed(
                    "The training took longer than it may. Take fewer examples or epochs, or raise "
                    "LOREBASE_TRAINING_SECONDS."
                )
            if not waiting.poll(_POLL_SECONDS * 1000):
                continue
            piece = os.read(handle, 65536)
            if not piece:
                return
            *lines, held = (held + piece).split(b"\n")
            yield from lines

    def _how_it_ended(self) -> str:
        status = self._child.wait()
        if status == -9:
            return (
                "The training process was killed: the machine ran out of memory, or somebody ended it. Take a smaller "
                "batch_size or max_length, or start it again."
            )
        return f"The training process broke (exit status {status}); the service's log says more. Start it again."

    def last_words(self) -> str:
        """The end of what the child wrote to its log."""
        path = self._spec.folder / LOG_FILE
        return path.read_text(errors="replace")[-2000:] if path.is_file() else ""


def tells_of_memory(said: str) -> bool:
    """Whether an error's text says that memory could not be had."""
    return any(words in said.lower() for words in _WORDS_FOR_IT)


def _environment(threads: int) -> dict[str, str]:
    """This process's environment with as many threads for each numeric library."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, "TOKENIZERS_PARALLELISM": "false", "BITSANDBYTES_NOWELCOME": "1"}
