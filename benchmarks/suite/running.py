"""One measurement in a process of its own, with a time limit, and what is kept of it.

Knows processes, commits and machines; knows nothing of what a figure means.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

State = Literal["measured", "failed", "out of time", "no data"]
ROOT = Path(__file__).parent.parent.parent
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement, as its file keeps it.

    Attributes:
        reason: why there are no figures, or why they are not to be trusted.
        machine: cpus, processor, load when it began (mean runnable processes of a minute), what
            ``OMP_NUM_THREADS`` said, python, system.
        figures: the last line it printed; ``None`` where that was no JSON object.
    """

    name: str
    state: State
    reason: str | None
    command: str
    began: str
    seconds: float
    commit: str | None
    machine: dict[str, Any]
    figures: dict[str, Any] | None


def run_benchmark(name: str, arguments: Sequence[str], folder: Path, *, data: Path, limit_s: float) -> Run:
    """Run a measurement and keep its file and what it printed (``NAME.out.txt``, ``NAME.err.txt``) in a folder.

    Everything it started is ended when the limit is reached or this process is interrupted, and its temporary files
    are deleted.

    Args:
        arguments: with ``{data}`` and ``{root}`` for the data's folder and the checkout.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(a.format(data=data, root=ROOT) for a in arguments)]
    shown = " ".join(["python", "-m", f"benchmarks.{name}", *(a.format(data="DATA", root=".") for a in arguments)])
    machine, began, start = _machine(), datetime.now(UTC), time.monotonic()
    out, err = folder / f"{name}.out.txt", folder / f"{name}.err.txt"
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as temporary, ExitStack() as files:
        output, errors = (files.enter_context(path.open("wb")) for path in (out, err))
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "TMPDIR": temporary}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    seconds = round(time.monotonic() - start, 1)
    figures = _last_object(out)
    state, reason = _fate(status, figures, limit_s, err)
    run = Run(name, state, reason, shown, began.isoformat(timespec="seconds"), seconds, _commit(), machine, figures)
    keep(run, folder)
    return run


def without_data(name: str, missing: str, folder: Path) -> Run:
    """Keep that a measurement was not run for want of its data."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    run = Run(name, "no data", missing, "", began, 0.0, _commit(), _machine(), None)
    keep(run, folder)
    return run


def keep(run: Run, folder: Path) -> None:
    """Write a run's file."""
    (folder / f"{run.name}.json").write_text(json.dumps(asdict(run), indent=1, ensure_ascii=False) + "\n")


def read_runs(folder: Path) -> list[Run]:
    """The runs kept in a folder, in the order they began.

    Raises:
        ValueError: a file is not a run.
    """
    runs = []
    for path in folder.glob("*.json"):
        try:
            runs.append(Run(**json.loads(path.read_text())))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a run of the suite: {error}") from None
    return sorted(runs, key=lambda run: (run.began, run.name))


def _fate(status: int | None, figures: object, limit_s: float, err: Path) -> tuple[State, str | None]:
    if status is None:
        return "out of time", f"ended after {limit_s:g} s"
    said = [line.strip() for line in err.read_text(errors="replace").splitlines() if line.strip()]
    if status:
        return "failed", said[-1] if said else f"exit status {status}"
    return ("measured", None) if figures is not None else ("failed", "its last line is no JSON object")


def _last_object(path: Path) -> dict[str, Any] | None:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it started; also what is left over by one that ended by itself."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _commit() -> str | None:
    """The checkout's commit, with a mark where tracked files differ from it; ``None`` where git does not know."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
