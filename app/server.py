"""`lorebase serve`: the service behind uvicorn, with a welcome at its first start and a drain at its end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from adapters.errors import UnsuitableAdapterStore
from app.adapter_store import AdapterStoreMismatch
from app.data_folder import DataFolderInUse, DataFolderUnusable
from app.keys_file import DEFAULT_TENANT, KEYS_FILE
from app.logs import configure_logs
from app.main import create_app
from app.service import Service
from app.settings import Settings
from app.storage import StorageMismatch
from app.tracing import TracingUnavailable
from ingest import IngestError

_CANNOT_BEGIN = (
    AdapterStoreMismatch,
    DataFolderInUse,
    DataFolderUnusable,
    IngestError,
    StorageMismatch,
    TracingUnavailable,
    UnsuitableAdapterStore,
)
_GLANCE_SECONDS = 0.05
_QUIET_GLANCES = 4  # in a row without a new connection or request, before the port is closed
_MOST_GLANCES = 40


class CannotServe(Exception):
    """The service cannot begin; the message says why."""


class _DrainingServer(uvicorn.Server):
    """Tells the service as soon as a signal arrives, so that endless responses end within the time to drain.

    The port stays open until nothing new comes in: what was sent at the moment of the signal is answered, with 503
    where it has not begun, and not cut off.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining.set()
        # Not the parent's: it would raise the signal again at the end, and an orderly end is no death by signal.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        seen, quiet = None, 0
        for _ in range(_MOST_GLANCES):
            if self.force_exit or quiet >= _QUIET_GLANCES:
                break
            now = (self.server_state.total_requests, frozenset(map(id, self.server_state.connections)))
            quiet = quiet + 1 if now == seen else 0
            seen = now
            await asyncio.sleep(_GLANCE_SECONDS)
        await super().shutdown(sockets)


def serve(settings: Settings, *, as_json: bool = False) -> int:
    """Run until SIGTERM or SIGINT; the exit status.

    Raises:
        CannotServe: it cannot begin.
    """
    configure_logs(settings.log_format, settings.log_level)
    try:
        service = Service(settings)
    except _CANNOT_BEGIN as error:
        raise CannotServe(str(error)) from error
    print(json.dumps(place(service)) if as_json else welcome(service), flush=True)  # noqa: T201
    server = _DrainingServer(uvicorn_config(create_app(service), settings), service)
    server.run()
    return 0 if server.started else 1


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to serve an application: where, with or without TLS, with this program's own logs."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


def place(service: Service) -> dict[str, Any]:
    """Where the service is, and at its first start the keys it made, for programs."""
    settings = service.settings
    return {
        "url": settings.url, "api": f"{settings.url}/docs", "data": str(settings.data), "storage": service.storage.kind,
        "model": service.engine.name,
        "new_keys": dict(service.new_keys),
    }  # fmt: skip


def welcome(service: Service) -> str:
    """What a person reads at the start: where the service is, and at its first start the keys with a first question."""
    url = service.settings.url
    data = f"{service.settings.data}{f' and {service.storage.kind}' if service.storage.is_remote else ''}"
    lines = [f"Lorebase on {url} (API: {url}/docs, data: {data}, model: {service.engine.name})"]
    if not service.new_keys:
        kept = service.settings.data / KEYS_FILE
        return "\n".join([*lines, f"Keys: as made at the first start, see {kept}." if kept.exists() else ""]).rstrip()
    lines += ["", "New keys, shown once and kept in " + str(service.settings.data / KEYS_FILE) + ":"]
    lines += [f"  {name}={key}" for name, key in service.new_keys.items()]
    key = service.new_keys.get("LOREBASE_DEFAULT_KEY")
    if key is not None:
        lines += [
            "",
            f"In the browser: open {url} and sign in with LOREBASE_DEFAULT_KEY to add documents and ask, or with the "
            "admin key to manage tenants.",
            f"In the terminal: give the tenant '{DEFAULT_TENANT}' a document, then ask (to paste, from this folder):",
            f"  curl -H 'Authorization: Bearer {key}' -F files=@examples/documents/staff-handbook.pdf "
            f"'{url}/ingest?wait=true'",
            f"  curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' "
            f'-d \'{{"question": "How many days of annual leave do employees have?"}}\' {url}/ask',
        ]
    return "\n".join([*lines, ""])
