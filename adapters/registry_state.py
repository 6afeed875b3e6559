"""Where a registry's state lies: the seam between what it means and how it is kept. Here: one file, replaced whole.

Knows a text that is read as a whole and published as a whole; knows nothing of adapters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_REGISTRY = "registry.json"
_UNPUBLISHED = "registry.json.tmp"


@dataclass
class Change:
    """A change under way.

    Attributes:
        others: what is stored, where other processes have published since it was last read here; None: nobody has.
        text: what is published when the block is left in order; None: nothing.
    """

    others: bytes | None = None
    text: bytes | None = None


class RegistryState(Protocol):
    """Keeps one text."""

    is_shared: bool
    """Whether other processes may change it too."""

    def read(self) -> bytes | None:
        """What is stored now; None while nothing is."""

    def others(self) -> bytes | None:
        """What is stored, where other processes have published since it was last read here; None: nobody has."""

    def changing(self) -> AbstractContextManager[Change]:
        """A block that no other change falls into, of this process or of another one. What cannot be published is
        not, and the error passes."""

    def sweep(self) -> None:
        """Delete what a crash left of a change."""


class FileState:
    """A file of a folder that belongs to this process: the registry's own lock keeps changes apart."""

    is_shared = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> bytes | None:
        """See `RegistryState`."""
        try:
            return (self._folder / _REGISTRY).read_bytes()
        except FileNotFoundError:
            return None

    def others(self) -> bytes | None:
        """See `RegistryState`: there are no others."""
        return None

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """See `RegistryState`."""
        change = Change()
        yield change
        if change.text is not None:
            write_durably(self._folder / _UNPUBLISHED, change.text)
            os.replace(self._folder / _UNPUBLISHED, self._folder / _REGISTRY)
            sync_folder(self._folder)

    def sweep(self) -> None:
        """See `RegistryState`."""
        (self._folder / _UNPUBLISHED).unlink(missing_ok=True)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file, and return when the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the disk has a folder's names."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
