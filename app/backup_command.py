"""`lorebase backup` and `lorebase restore`: by itself on a data folder, or through the service that holds it."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from app.backup import DATABASE, TENANTS, InvalidBackup, backup, is_complete, restore
from app.keys_file import KEYS_FILE
from app.service import DataFolderInUse, lock_data_folder
from app.settings import Settings
from app.tenants import CENTRAL_MIGRATIONS, TenantDirectory
from ingest import Database, IngestError

_ADMIN_KEY = re.compile(r"^LOREBASE_ADMIN_KEY=(\S+)$", re.MULTILINE)


class _Failed(Exception):
    """The backup cannot be made; the message says why."""


def run_backup(settings: Settings, target: Path, tenant_id: str | None = None) -> int:
    """Write a backup of the data folder, or of one tenant, to ``target``; the exit status.

    The file appears under its name when it is complete.
    """
    if not (settings.data / DATABASE).is_file():
        return _fail(f"There is no data in {settings.data}: set LOREBASE_DATA to the service's folder.")
    if target.exists():
        return _fail(f"{target} is there already; name a new file.")
    part = target.with_name(target.name + ".part")
    try:
        _take(settings, part, tenant_id)
        os.replace(part, target)
    except (_Failed, OSError, IngestError) as error:
        return _fail(str(error))
    finally:
        part.unlink(missing_ok=True)
    Console().print(f"The backup is in {target}: {target.stat().st_size / 1024**2:.1f} MiB.")
    return 0


def run_restore(settings: Settings, source: Path) -> int:
    """Make the data folder of the settings from a backup; the exit status."""
    try:
        with source.open("rb") as archive, _progress("restoring") as progress:
            task = progress.add_task("restoring", total=source.stat().st_size)
            tenants = restore(archive, settings.data, lambda done, _: progress.update(task, completed=done))
    except (InvalidBackup, OSError) as error:
        return _fail(str(error))
    Console().print(
        f"{settings.data} is restored, with {tenants} tenants and the keys they had. "
        "The admin key is the former one too; LOREBASE_ADMIN_KEY sets another."
    )
    return 0


def _take(settings: Settings, part: Path, tenant_id: str | None) -> None:
    try:
        with lock_data_folder(settings.data):
            _write(part, _of_folder(settings.data, tenant_id))
    except DataFolderInUse:
        _write(part, _of_service(settings, tenant_id))
    if not is_complete(part):
        raise _Failed("The backup broke off; the service's log says why. Try again.")


def _write(part: Path, pieces: Iterable[bytes]) -> None:
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file, _progress("backing up") as progress:
        task = progress.add_task("backing up", total=None)
        for piece in pieces:
            file.write(piece)
            progress.advance(task, len(piece))
        file.flush()
        os.fsync(file.fileno())


def _of_folder(data: Path, tenant_id: str | None) -> Iterator[bytes]:
    with closing(Database(data / DATABASE, CENTRAL_MIGRATIONS)) as central:
        if tenant_id is not None and TenantDirectory(central).tenant(tenant_id) is None:
            raise _Failed(f"There is no tenant {tenant_id} in {data}; `GET /tenants` lists the ids.")

        @contextmanager
        def open_tenant(tenant_id: str) -> Iterator[Database | None]:
            path = data / TENANTS / tenant_id / DATABASE
            if not path.is_file():
                yield None
                return
            with closing(Database(path, {})) as database:
                yield database

        yield from backup(data, central, open_tenant, only=tenant_id)


def _of_service(settings: Settings, tenant_id: str | None) -> Iterator[bytes]:
    url = settings.url + ("/backup" if tenant_id is None else f"/tenants/{quote(tenant_id, safe='')}/export")
    headers = {"Authorization": f"Bearer {_admin_key(settings)}"}
    try:
        timeout, trusted = httpx.Timeout(10, read=600), _trusted(settings)
        with httpx.stream("GET", url, headers=headers, timeout=timeout, verify=trusted) as response:
            if response.status_code != 200:
                response.read()
                raise _Failed(f"The service at {settings.url} answered {response.status_code}: {_detail(response)}")
            yield from response.iter_bytes()
    except httpx.TransportError as error:
        raise _Failed(
            f"A service holds {settings.data}, but {url} gave no backup ({error}). Set LOREBASE_HOST and LOREBASE_PORT "
            "as the service has them."
        ) from error


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """Trust in the service's own certificate, whatever name it is for: it is asked on this machine."""
    if settings.tls_certificate is None:
        return True
    context = ssl.create_default_context(cafile=str(settings.tls_certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _admin_key(settings: Settings) -> str:
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    keys = settings.data / KEYS_FILE
    found = _ADMIN_KEY.findall(keys.read_text()) if keys.is_file() else []
    if not found:
        raise _Failed(f"A service holds {settings.data}; set LOREBASE_ADMIN_KEY, so that it can be asked for a backup.")
    return str(found[-1])


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _progress(what: str) -> Progress:
    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _fail(reason: str) -> int:
    print(reason, file=sys.stderr)  # noqa: T201
    return 1
