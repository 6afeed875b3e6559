"""The keys that the first start makes, and the file that keeps them for whoever runs the service (mode 600)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from app.keys import KeyStore, new_key
from app.settings import Settings
from app.tenants import TenantDirectory

DEFAULT_TENANT = "default"
KEYS_FILE = "keys.env"
_ADMIN_KEY, _DEFAULT_KEY = "LOREBASE_ADMIN_KEY", "LOREBASE_DEFAULT_KEY"


def first_keys(directory: TenantDirectory, settings: Settings) -> dict[str, str]:
    """Make what keys are missing, take over those the environment gives; the made ones.

    A made key stands in the file before it opens anything, so that a crash in between leaves none that nobody knows:
    what the file has of a start that came no further is dropped by the next one, which makes others.
    """
    drop_unknown(settings.data, directory.keys)
    default = next((t for t in directory.tenants() if t.name == DEFAULT_TENANT), None)
    made: dict[str, str] = {}
    if settings.admin_key is None and not directory.keys.has_admin_key():
        made[_ADMIN_KEY] = new_key()
    if settings.default_key is None and default is None and not directory.tenants():
        made[_DEFAULT_KEY] = new_key()
    _keep(settings.data, made)
    if settings.admin_key is not None:
        directory.keys.set_environment_key(None, settings.admin_key.get_secret_value())
    elif _ADMIN_KEY in made:
        directory.keys.add(None, key=made[_ADMIN_KEY])
    if settings.default_key is not None:
        if default is None:
            default, _ = directory.create(DEFAULT_TENANT)
        directory.keys.set_environment_key(default.id, settings.default_key.get_secret_value())
    elif _DEFAULT_KEY in made:
        directory.create(DEFAULT_TENANT, made[_DEFAULT_KEY])
    return made


def _keep(data: Path, made: dict[str, str]) -> None:
    if not made:
        return
    handle = os.open(data / KEYS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "w") as file:
        file.writelines(f"{name}={key}\n" for name, key in made.items())
        file.flush()
        os.fsync(file.fileno())


def kept_key(data: Path, *, admin: bool) -> str | None:
    """The last key that a first start left in a data folder."""
    name = _ADMIN_KEY if admin else _DEFAULT_KEY
    file = data / KEYS_FILE
    found = re.findall(rf"^{name}=(\S+)$", file.read_text(), re.MULTILINE) if file.is_file() else []
    return str(found[-1]) if found else None


def drop_unknown(data: Path, keys: KeyStore) -> None:
    """Leave out of the file the keys that are no one's any more, such as those of a tenant that was removed."""
    path = data / KEYS_FILE
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)  # of a crash
    if not path.is_file():
        return
    lines = path.read_text().splitlines(keepends=True)
    known = [line for line in lines if not _is_key(line) or keys.principal(line.partition("=")[2].strip()) is not None]
    if known == lines:
        return
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(known)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _is_key(line: str) -> bool:
    """Whether a line of the file is one of those that a first start writes."""
    return line.partition("=")[0] in {_ADMIN_KEY, _DEFAULT_KEY}
