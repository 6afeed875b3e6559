"""What is loaded when: every command and every start pays for what is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("torch", "transformers", "peft", "faiss", "sentence_transformers", "sklearn", "trafilatura")
_OF_A_SERVER = ("numpy", "fastapi", "starlette", "uvicorn", "opentelemetry", "app.service", "app.workspace")


def _loaded_after(statement: str, among: tuple[str, ...] = _HEAVY) -> list[str]:
    """Which of some modules, the heavy libraries, a fresh process has loaded after a statement."""
    script = f"{statement}\nimport sys; print(*[name for name in {among!r} if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1].split()  # fmt: skip


@pytest.mark.parametrize(
    "module",
    ["app.cli", "app.server", "app.terminal.reindexing", "app.terminal.evaluating", "app.client", "ingest.parsing"],
)
def test_a_command_loads_no_model_library_before_it_needs_one(module: str) -> None:
    assert _loaded_after(f"import {module}") == []


@pytest.mark.parametrize("module", ["app.client", "app.terminal.asking", "app.terminal.ingesting"])
def test_a_command_on_a_running_service_loads_nothing_of_a_server(module: str) -> None:
    assert _loaded_after(f"import {module}", (*_HEAVY, *_OF_A_SERVER)) == []
