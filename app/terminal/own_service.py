"""A service of the command's own, in its process: a data folder served on a free loopback port until the command ends.

Its keys live in this process's memory alone; the folder's lock keeps it apart from a running service.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn

from app.backup import DATABASE
from app.data_folder import DataFolderInUse, lock_data_folder
from app.keys import Principal, new_key
from app.keys_file import DEFAULT_TENANT, KEYS_FILE
from app.logs import configure_logs
from app.main import create_app
from app.scopes import OPERATOR, spread
from app.service import Service
from app.settings import Settings
from app.storage import StorageMismatch, open_central, refuse_unknown_tenants
from app.tenants import TenantDirectory
from app.terminal.failures import CommandFailed, Exit
from app.terminal.output import Output
from app.terminal.session import Place

_POLL_SECONDS = 0.05


@contextmanager
def own_service(data: Path, tenant: str | None, output: Output, *, creates: bool) -> Iterator[Place]:
    """Serve a folder; a key to a tenant of it by name, or with None the admin's.

    Raises:
        CommandFailed: there is no such folder or tenant, a running service has it, it has lost its central database, or
            the model cannot be used.
        IngestError: its central database is damaged, or of a newer version.
    """
    in_use = CommandFailed(
        f"A running service has {data}: leave --data out and give its --url and --key, or stop it.",
        "data_folder_in_use",
    )
    try:
        owner = _owner(data, tenant, creates=creates)
        configure_logs("text", "error")
        output.note(f"serving {data} for this command …")
        service = Service(Settings(data=data, host="127.0.0.1", database_url=None))
    except DataFolderInUse as error:
        raise in_use from error
    except StorageMismatch as error:
        raise CommandFailed(str(error), "storage_mismatch") from error
    if service.new_keys:
        output.note(f"the new folder's keys are in {data / KEYS_FILE}")
    guests: dict[str, Principal] = {}
    app = create_app(service, guests)
    with _listening(uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))) as url:
        key = new_key()
        owner = owner or (service.directory.tenants()[0].id if tenant is not None else None)
        guests[key] = Principal("command", owner, frozenset({OPERATOR}) if owner is None else spread(("admin",)))
        _wait_until_ready(service)
        yield Place(url, key)


def _owner(data: Path, tenant: str | None, *, creates: bool) -> str | None:
    """The id of a tenant by its name, before anything is loaded; None for the admin, and for a folder to be made."""
    refuse_unknown_tenants(data)
    if not (data / DATABASE).is_file():
        if creates and tenant in (None, DEFAULT_TENANT):  # the only one that a first start makes
            return None
        raise CommandFailed(f"There is no data in {data}: --data takes a service's folder.", "no_data", Exit.NOT_FOUND)
    with (
        lock_data_folder(data),
        closing(TenantDirectory(open_central(data))) as directory,
    ):
        names = {each.name: each.id for each in directory.tenants()}
    if tenant is None:
        return None
    if tenant not in names:
        there = ", ".join(sorted(names)) or "none"
        raise CommandFailed(
            f"This folder has no tenant named {tenant!r}; it has: {there}.", "not_found", Exit.NOT_FOUND
        )
    return names[tenant]


@contextmanager
def _listening(server: uvicorn.Server) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), name="own-service")
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(_POLL_SECONDS)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_ready(service: Service) -> None:
    while not service.readiness()[0]:
        if service.failure is not None:
            raise CommandFailed(service.failure, "model_unavailable")
        time.sleep(_POLL_SECONDS)
