"""`lorebase model-server`: a language model and its adapters, for the Lorebases in front of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import Settings
from app.terminal.failures import CommandFailed, told
from app.terminal.session import AsJson


def model_server(
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id of a language model; LOREBASE_MODEL unless given.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8001,
    adapters: Annotated[
        Path | None,
        typer.Option(help="The only folder that adapters are read from; LOREBASE_DATA unless given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a language model and its adapters over vLLM's API, until SIGTERM.

    LOREBASE_MODEL_SERVER_KEY is the key that requests must carry. LOREBASE_DTYPE, …_QUANTIZE, …_MAX_BATCH,
    …_MAX_WAITING, …_ADAPTER_MEMORY_MB, …_KV_MEMORY_MB and the like mean what they mean to the service.
    """
    with told(as_json=as_json):
        given: dict[str, Any] = {"model": model} if model is not None else {}
        settings = Settings(host=host, port=port, **given)
        from app.model_server.server import serve_model
        from app.server import CannotServe

        try:
            status = serve_model(settings, adapters or settings.data, as_json=as_json)
        except CannotServe as error:
            raise CommandFailed(str(error), "cannot_serve") from error
    raise typer.Exit(status)
