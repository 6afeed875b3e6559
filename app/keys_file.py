"""The keys that the first start makes, and the file that keeps them for whoever runs the service (mode 600)."""

from __future__ import annotations

import os
from pathlib import Path

from app.keys import KeyStore, new_key
from app.settings import Settings
from app.tenants import TenantDirectory

DEFAULT_TENANT = "default"
KEYS_FILE = "keys.env"


def first_keys(directory: TenantDirectory, settings: Settings) -> dict[str, str]:
    """Make what keys are missing, take over those the environment gives; the made ones."""
    made: dict[str, str] = {}
    if settings.admin_key is not None:
        directory.keys.set_environment_key(None, settings.admin_key.get_secret_value())
    elif not directory.keys.has_admin_key():
        _, made["LOREBASE_ADMIN_KEY"] = directory.keys.add(None)
    default = next((t for t in directory.tenants() if t.name == DEFAULT_TENANT), None)
    if settings.default_key is not None:
        if default is None:
            default, _ = directory.create(DEFAULT_TENANT)
        directory.keys.set_environment_key(default.id, settings.default_key.get_secret_value())
    elif default is None and not directory.tenants():
        key = new_key()
        directory.create(DEFAULT_TENANT, key)
        made["LOREBASE_DEFAULT_KEY"] = key
    if made:
        handle = os.open(settings.data / KEYS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "w") as file:
            file.writelines(f"{name}={key}\n" for name, key in made.items())
    return made


def drop_unknown(data: Path, keys: KeyStore) -> None:
    """Leave out of the file the keys that are no one's any more, such as those of a tenant that was removed."""
    path = data / KEYS_FILE
    if not path.is_file():
        return
    lines = path.read_text().splitlines(keepends=True)
    known = [line for line in lines if keys.principal(line.partition("=")[2].strip()) is not None]
    if known == lines:
        return
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(known)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
