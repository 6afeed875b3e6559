"""What is loaded when: every command and every start pays for what is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("torch", "transformers", "peft", "faiss", "sentence_transformers", "sklearn", "trafilatura")
_LOADED = f"import sys; print(*[name for name in {_HEAVY!r} if name in sys.modules])"


def _loaded_after(statement: str) -> list[str]:
    """The heavy libraries that a fresh process has loaded after a statement."""
    script = f"{statement}\n{_LOADED}"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1].split()  # fmt: skip


@pytest.mark.parametrize(
    "module",
    ["app.cli", "app.server", "app.terminal.reindexing", "app.terminal.evaluating", "app.client", "ingest.parsing"],
)
def test_a_command_loads_no_model_library_before_it_needs_one(module: str) -> None:
    assert _loaded_after(f"import {module}") == []
