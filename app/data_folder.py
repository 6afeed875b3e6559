"""A service's data folder: that what lies in it is what should lie there, and that no other process has it.

Knows names; what stands in the files is known to those who open them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.backup import DATABASE, TENANTS
from app.keys_file import KEYS_FILE

_LOCK = "lock"
_FILES = (_LOCK, DATABASE, KEYS_FILE)


class DataFolderInUse(Exception):
    """Another process serves this data folder."""


class DataFolderUnusable(OSError):
    """Something else lies where the service keeps what it needs; the message says what to do."""


@contextmanager
def lock_data_folder(data: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep every other process out of a data folder, or with ``shared`` those that do not share it.

    Raises:
        DataFolderInUse: another process holds it.
        DataFolderUnusable: see `misplaced`.
    """
    if (reason := misplaced(data)) is not None:
        raise DataFolderUnusable(f"{reason}: move it away, or set LOREBASE_DATA to another folder.")
    handle = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DataFolderInUse(
            f"Another Lorebase process uses the data folder {data}. Stop it, or set LOREBASE_DATA to another folder."
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def misplaced(data: Path) -> str | None:
    """What is a file where a folder should be, or the other way round; None when all is as it should be."""
    for folder in (data, data / TENANTS):
        if folder.exists() and not folder.is_dir():
            return f"{folder} is no folder"
    for name in _FILES:
        if (data / name).is_dir():
            return f"{data / name} is a folder, where a file should be"
    return None
