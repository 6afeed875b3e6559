"""The console script as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(sys.executable).with_name("lorebase")


@dataclass(frozen=True)
class Ran:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """The one line of JSON it wrote."""
        [line] = self.out.splitlines()
        return json.loads(line)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of the service, and with others."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOREBASE_")} | variables


def lorebase(*arguments: str, cwd: Path | None = None, **variables: str) -> Ran:
    """Run the console script to its end."""
    done = subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, env=environment(**variables), cwd=cwd, timeout=100,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)
