"""Runs the service in a process whose wall clock can be set from outside: `python -m reliability.jumping_clock serve`.

What Python code asks of `time.time` and `time.time_ns` is off by the seconds that a file holds, read at every call;
monotonic clocks are not, as on a machine whose clock is set. What SQLite and C code ask the system is as it was: the
service has no SQL that decides anything by it. The service knows nothing of this.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

FILE = "RELIABILITY_CLOCK"
"""The variable that names the file."""
_NUMBER = struct.Struct("=d")


class Clock:
    """How far a process's clock is off. Made by the one that sets it, which needs no more than the file's path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(_NUMBER.pack(0.0))
        self.seconds = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """What the process has to be given."""
        return {FILE: str(self._path)}

    def set(self, seconds: float) -> None:
        """Let it be off by so many seconds from now on; 0: right."""
        self.seconds = seconds
        with self._path.open("r+b") as file:
            file.write(_NUMBER.pack(seconds))


def _set_off(path: str) -> None:
    """Let this process's clock be off by what the file says."""
    with open(path, "rb") as file:
        seconds = mmap.mmap(file.fileno(), _NUMBER.size, access=mmap.ACCESS_READ)
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + _NUMBER.unpack_from(seconds)[0]
    time.time_ns = lambda: now_ns() + int(_NUMBER.unpack_from(seconds)[0] * 1e9)


if __name__ == "__main__":
    _set_off(os.environ[FILE])  # before anything of the service is imported
    from app.cli import main

    main()
