"""The model server as a process: a loaded backend behind uvicorn.

Knows settings and where to listen; what runs the model is the backend's.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import uvicorn

from adapters.errors import AdapterError
from app.engines import causal_engine_of
from app.logs import configure_logs
from app.model_server.api import create_model_app
from app.model_server.backend import Backend, EngineBackend
from app.model_server.catalogue import Catalogue
from app.server import CannotServe, uvicorn_config
from app.settings import BUILTIN, REMOTE, Settings

MakeBackend = Callable[[Settings], Backend]


def engine_backend(settings: Settings) -> EngineBackend:
    """The model in this process, loaded. Raises ModelUnavailable."""
    engine = causal_engine_of(settings)
    engine.load()
    return EngineBackend(engine)


def serve_model(
    settings: Settings, adapters: Path, make_backend: MakeBackend = engine_backend, *, as_json: bool = False
) -> int:
    """Load the model, then answer until SIGTERM or SIGINT; the exit status.

    Args:
        adapters: the folder that adapters are read from.

    Raises:
        CannotServe: it cannot begin; the message says why.
    """
    configure_logs(settings.log_format, settings.log_level)
    key = settings.model_server_key.get_secret_value() if settings.model_server_key else None
    if settings.model == BUILTIN or settings.model.startswith(REMOTE):
        raise CannotServe("Say which model: --model FOLDER, or the hub id of a Hugging Face language model.")
    if key is None and not _is_loopback(settings.host):
        raise CannotServe(
            f"Without a key only this machine may reach the model server, and {settings.host} is open to others. "
            "Set LOREBASE_MODEL_SERVER_KEY, or listen on 127.0.0.1."
        )
    try:
        backend = make_backend(settings)
    except AdapterError as error:
        raise CannotServe(str(error)) from error
    app = create_model_app(
        backend,
        Catalogue(adapters),
        key=key,
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
    )
    print(_place(settings, backend, as_json), flush=True)  # noqa: T201
    server = uvicorn.Server(uvicorn_config(app, settings))
    server.run()
    return 0 if server.started else 1


def _place(settings: Settings, backend: Backend, as_json: bool) -> str:
    api = f"{settings.url}/v1"
    if as_json:
        return json.dumps({"url": api, "model": backend.model, "context": backend.context})
    return (
        f"{backend.model} on {api}. The service in front of it:\n"
        f"  LOREBASE_MODEL='openai:{backend.model}' LOREBASE_OPENAI_URL={api} LOREBASE_OPENAI_KEY=… lorebase serve\n"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
