"""`lorebase serve`, `lorebase settings` and `lorebase demo`."""

from __future__ import annotations

from typing import Any

import typer
from pydantic_settings import BaseSettings

from app.settings import CommandSettings, Settings, settings_table
from app.terminal.failures import CommandFailed, told
from app.terminal.output import Output
from app.terminal.session import AsJson


def serve(as_json: AsJson = False) -> None:
    """Run the service. Settings come from LOREBASE_… variables: see `lorebase settings`.

    With --json it begins with one line of JSON: where it is, and at its first start the keys.
    """
    with told(as_json=as_json):
        settings = Settings()
        from app.server import CannotServe
        from app.server import serve as run

        try:
            status = run(settings, as_json=as_json)
        except CannotServe as error:
            raise CommandFailed(str(error), "cannot_serve") from error
    raise typer.Exit(status)


def settings(as_json: AsJson = False) -> None:
    """Every setting with its default and meaning, as Markdown tables: the service's, then the commands'."""
    kinds: dict[str, type[BaseSettings]] = {"service": Settings, "commands": CommandSettings}
    if as_json:
        Output(as_json=True).result({
            kind: {f"LOREBASE_{name.upper()}": _described(field) for name, field in each.model_fields.items()}
            for kind, each in kinds.items()
        })  # fmt: skip
    else:
        typer.echo("\n\n".join(settings_table(each) for each in kinds.values()))


def demo(as_json: AsJson = False) -> None:
    """Two tenants, three documents, two adapters: the service shown on the examples."""
    from app.terminal.demo import run_demo

    with told(as_json=as_json):
        run_demo(Output(as_json=as_json))


def _described(field: Any) -> dict[str, Any]:
    default = field.default
    plain = default if isinstance(default, str | int | float | None) else str(default)
    return {"default": plain, "meaning": field.description}
