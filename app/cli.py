"""The `lorebase` command: a table of its commands, each of which is loaded when it is called.

So `lorebase --help` and the completion of names cost nothing but typer; what a command does lives in `app.terminal`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

# Read by libraries when torch or faiss is loaded; what is set already stays.
_KERNELS = {
    # Threads that share a computation spin for milliseconds when they wait for one another; where the processor is
    # busy, they spin away the turns of those they wait for. As long as the gaps within one answer, short beside a turn
    # of the scheduler.
    "GOMP_SPINCOUNT": "20000",
    # Kernels are kept for the shapes seen last; the library's own 1,024 take hundreds of MiB and save no time.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}
_PANELS = {
    "Service": {
        "serve": ("serving:serve", "Run the service."),
        "model-server": (
            "model_serving:model_server",
            "Serve a language model and its adapters to Lorebases, in one process or on Ray.",
        ),
        "doctor": (
            "doctor:doctor",
            "Say what is wrong with this machine, the data or the service, and how to mend it.",
        ),
        "demo": ("serving:demo", "Two tenants, three documents, two adapters: the service shown on the examples."),
        "settings": ("serving:settings", "Every setting with its default and meaning."),
    },
    "Documents and questions": {
        "ingest": ("ingesting:ingest", "Store files and folders; --watch keeps a folder in step."),
        "documents": ("documents:group", "The documents a tenant has stored."),
        "ask": ("asking:ask", "Answer a question, with the sentences the answer rests on."),
        "search": ("asking:search", "The passages most like a query, best first."),
        "split": ("splitting:split_command", "Show where a file would be cut into chunks."),
    },
    "Adapters": {
        "adapters": ("adapters:group", "A tenant's adapters and their versions."),
        "dataset": ("datasets:group", "Training sets of a tenant."),
        "train": ("training:group", "Train adapters, and the embedded reader and reranker themselves."),
        "evaluate": ("evaluating:evaluate_command", "Measure retrieval and answers on a question set."),
    },
    "Operation": {
        "tenants": ("tenants:group", "Tenants and their keys; needs the admin key."),
        "usage": ("documents:usage", "What the tenant has and has used, beside its limits."),
        "audit": ("auditing:group", "What was changed in a tenant, and by which key."),
        "jobs": ("jobs:group", "Background jobs: ingestions, trainings, evaluations."),
        "backup": ("backing_up:backup_command", "Write everything but the keys to one archive, also while it works."),
        "restore": ("backing_up:restore_command", "Make a new data folder from a backup."),
        "reindex": ("reindexing:reindex_command", "Embed all documents anew after LOREBASE_EMBEDDER changed."),
        "migrate": ("migrating:migrate_command", "Move the rows of a data folder into PostgreSQL, or back."),
        "bench": ("benching:group", "Measure this machine: `lorebase bench ask --quick`."),
    },
}
_PLACES = {name: place for commands in _PANELS.values() for name, (place, _) in commands.items()}


class _LoadedWhenCalled(TyperGroup):
    """Shows the table's lines as help, and loads a command only to run it or to complete its options."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _loaded(name) if command is not None and name is not None else command, rest


def load(name: str) -> Any:
    """What a line of the table names: a function, or a typer application."""
    module, attribute = _PLACES[name].split(":")
    return getattr(import_module(f"app.terminal.{module}"), attribute)


def command_names() -> list[str]:
    """The names of all commands."""
    return list(_PLACES)


def _loaded(name: str) -> Any:
    found = load(name)
    if not isinstance(found, typer.Typer):
        single = _typer()
        single.command(name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


def _typer(**settings: Any) -> typer.Typer:
    return typer.Typer(pretty_exceptions_enable=False, **{"add_completion": False, **settings})


def _root() -> typer.Typer:
    root = _typer(name="lorebase", cls=_LoadedWhenCalled, no_args_is_help=True, add_completion=True)
    for panel, commands in _PANELS.items():
        for name, (_, help) in commands.items():
            root.command(name, help=help, rich_help_panel=panel)(_placeholder())

    @root.callback()
    def about() -> None:
        """Question answering over each tenant's own documents, in each tenant's own adapter."""

    return root


def _placeholder() -> Callable[[], None]:
    def placeholder() -> None:
        """Never called: the command it stands for is loaded instead."""

    return placeholder


cli = _root()


def main() -> None:
    """Entry point of the console script."""
    for name, value in _KERNELS.items():
        os.environ.setdefault(name, value)
    try:
        cli()
    except Exception as error:
        from app.settings import debugging
        from app.terminal.failures import CommandFailed, tell

        if debugging():
            raise
        unexpected = f"{type(error).__name__}: {error}. LOREBASE_LOG_LEVEL=debug shows where."
        tell(CommandFailed(unexpected, "unexpected"), as_json="--json" in sys.argv)
        sys.exit(1)
    finally:
        gc.freeze()  # looking through the model libraries for garbage would be the longest part of a server's end


if __name__ == "__main__":
    main()
