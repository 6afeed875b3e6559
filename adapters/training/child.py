"""The child side of a training job: reads its spec from standard input, writes events to standard output, a line each.

Run as ``python -c "from adapters.training.child import main; main()"`` by ``adapters.training.process``. Stands back
for the processor, limits its own memory, ends when its parent does. Writes only into its own folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

from adapters.training.process import TOO_LITTLE_MEMORY, tells_of_memory

_PARENT_CHECK_SECONDS = 0.5
_REPORT_SECONDS = 0.5


def main() -> None:
    """Do the one run that standard input describes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print to descriptor 1; the events go to a copy of it that they do not know.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = json.loads(sys.stdin.buffer.read())
    _follow_parent(int(spec["parent"]))
    _stand_back(int(spec["niceness"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(int(spec["memory_bytes"]))
    folder = Path(spec["folder"])
    with (folder / "lock").open("w") as lock:  # one that a killed service left behind may not be gone yet
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _tell(events, "done", **_run(spec, folder, events))
        except BrokenPipeError:
            os._exit(1)
        except BaseException as error:
            traceback.print_exc()
            _tell(events, *_reason(error))
    events.flush()
    os._exit(0)  # no time for the interpreters of libraries to clean up


def _stand_back(niceness: int) -> None:
    """Leave the processor to others. Linux weighs sessions against each other before it looks at their processes, and
    this is a session of its own, so both are told (sched(7), "The autogroup feature")."""
    os.nice(niceness)
    with contextlib.suppress(OSError):  # not every kernel groups by sessions
        Path("/proc/self/autogroup").write_text(str(niceness))


def _run(spec: dict[str, Any], folder: Path, events: IO[str]) -> dict[str, Any]:
    _tell(events, "stage", stage="loading")
    from adapters.training.data import load_examples
    from adapters.training.run import facts_of, train
    from adapters.training.settings import TrainingConfig
    from adapters.training.trainer import TrainingProgress

    config = TrainingConfig(**{**spec["config"], "schedule": tuple(tuple(p) for p in spec["config"]["schedule"])})
    content = (folder / "examples.jsonl").read_bytes()
    told = 0.0

    def report(progress: TrainingProgress) -> None:
        nonlocal told
        if time.monotonic() - told < _REPORT_SECONDS and 1 < progress.step < progress.steps:
            return
        told = time.monotonic()
        _tell(
            events,
            "progress",
            step=progress.step,
            steps=progress.steps,
            loss=progress.loss,
            eta_seconds=progress.eta_seconds,
        )

    trained, base = train(
        load_examples(content),
        folder / "output",
        config,
        model=spec["model"],
        dtype=spec["dtype"],
        objective=spec["objective"],
        expected_base=spec["expected_base"],
        report=report,
        report_every=1,
        checkpoint_seconds=float(spec["checkpoint_seconds"]),
        loaded=lambda: _tell(events, "stage", stage="training"),
    )
    return {**facts_of(config, trained, base), "data_sha256": hashlib.sha256(content).hexdigest()}


def _reason(error: BaseException) -> tuple[str, str]:
    said = f"{error} {error.__cause__ or ''}"
    if isinstance(error, MemoryError) or tells_of_memory(said):
        return "failed", TOO_LITTLE_MEMORY
    from adapters.errors import AdapterError  # what could be imported before can be now

    if isinstance(error, AdapterError):
        return "refused", str(error)
    return "failed", f"An unexpected {type(error).__name__} ended the training: {str(error)[:300]}"


def _tell(stream: IO[str], event: str, message: str | None = None, **fields: Any) -> None:
    if message is not None:
        fields["message"] = message
    stream.write(json.dumps({"event": event, **fields}) + "\n")
    stream.flush()


def _limit_memory(memory_bytes: int) -> None:
    """Limit memory of its own (data, not mapped files or address space), which is what runs a machine full."""
    with contextlib.suppress(ValueError, OSError):  # a lower hard limit is already in force
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _follow_parent(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
