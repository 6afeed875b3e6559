"""`lorebase model-server`: a language model and its adapters, for the Lorebases in front of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import Settings
from app.terminal.failures import CommandFailed, Unusable, told
from app.terminal.session import AsJson


def _on_ray(help: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="On Ray", **limits)


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
    on_ray: Annotated[bool, _on_ray("Run copies of the model on Ray Serve.", "--ray")] = False,
    ray_address: Annotated[
        str | None, _on_ray("A Ray that is there, such as `auto`; unless given, one is started on this machine.")
    ] = None,
    replicas: Annotated[int, _on_ray("Copies of the model.", min=1)] = 1,
    max_replicas: Annotated[
        int | None, _on_ray("Up to so many when rows queue up; unless given, never more.", min=1)
    ] = None,
    cpus: Annotated[float, _on_ray("Processors that each copy reserves.", min=0.0)] = 1.0,
    gpus: Annotated[float, _on_ray("GPUs that each copy reserves.", min=0.0)] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Serve a language model and its adapters over vLLM's API, until SIGTERM.

    LOREBASE_MODEL_SERVER_KEY is the key that requests must carry. LOREBASE_DTYPE, …_QUANTIZE, …_MAX_BATCH,
    …_MAX_WAITING, …_ADAPTER_MEMORY_MB, …_KV_MEMORY_MB and the like mean what they mean to the service.
    """
    with told(as_json=as_json):
        given: dict[str, Any] = {"model": model} if model is not None else {}
        settings = Settings(host=host, port=port, **given)
        from app.model_server.ray_cluster import Replicas, ray_backend
        from app.model_server.server import MakeBackend, engine_backend, serve_model
        from app.server import CannotServe

        make_backend: MakeBackend = engine_backend
        if on_ray:
            wanted = Replicas(replicas, max(replicas, max_replicas or 0), ray_address, cpus, gpus)
            make_backend = partial(ray_backend, replicas=wanted)
        elif ray_address or replicas > 1 or max_replicas:
            raise Unusable("--ray-address, --replicas and --max-replicas are for a model on Ray: add --ray.")
        try:
            status = serve_model(settings, adapters or settings.data, make_backend, as_json=as_json)
        except CannotServe as error:
            raise CommandFailed(str(error), "cannot_serve") from error
    raise typer.Exit(status)
