"""Which adapters a model server answers to: names, each for one folder and the weights in it.

Only folders inside one root are opened, whoever asks. Knows files and names; knows no model, no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters import ADAPTER_WEIGHTS, AdapterRef
from adapters.adapter_files import sha256_of


class NameTaken(Exception):
    """An adapter of this name is there already."""


class NoSuchName(Exception):
    """No adapter of this name is there."""


class NoAdapterThere(Exception):
    """A folder holds no adapter, or is not one that may be opened."""


@dataclass(frozen=True, slots=True)
class Named:
    """An adapter that was loaded; ``created`` is when, in seconds since 1970."""

    ref: AdapterRef
    created: int


class Catalogue:
    """The names. Lives in one event loop.

    Args:
        root: the folder in which adapters lie.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._named: dict[str, Named] = {}

    @property
    def named(self) -> Mapping[str, Named]:
        return self._named

    async def read(self, name: str, path: str) -> AdapterRef:
        """What a name is to mean: the folder, and its weights as they are now.

        Raises:
            NameTaken: by whatever else it is to mean.
            NoAdapterThere: one text for all reasons, so that nobody learns what else lies on this machine.
        """
        if name in self._named:
            raise NameTaken(f"The lora adapter '{name}' has already been loaded.")
        nothing = NoAdapterThere(
            f"Loading lora {name} failed: No adapter found for {path}. It must be a folder with {ADAPTER_WEIGHTS} "
            f"inside {self._root}, which --adapters of the model server names."
        )
        if "\0" in path:
            raise nothing
        try:
            folder = await asyncio.to_thread(Path(path).resolve)
            if not folder.is_relative_to(self._root):
                raise nothing
            sha256 = await asyncio.to_thread(sha256_of, folder / ADAPTER_WEIGHTS)
        except OSError as error:
            raise nothing from error
        return AdapterRef(sha256, folder, name)

    def add(self, ref: AdapterRef) -> None:
        """Let a name mean an adapter from now on. Raises NameTaken."""
        if ref.name in self._named:
            raise NameTaken(f"The lora adapter '{ref.name}' has already been loaded.")
        self._named[ref.name] = Named(ref, int(time.time()))

    def remove(self, name: str) -> AdapterRef:
        """Forget a name; what it meant. Raises NoSuchName."""
        if name not in self._named:
            raise NoSuchName(f"The lora adapter '{name}' cannot be found.")
        return self._named.pop(name).ref

    def find(self, name: str) -> AdapterRef:
        """What a name means. Raises NoSuchName."""
        if name not in self._named:
            raise NoSuchName(f"The model `{name[:80]}` does not exist; GET /v1/models lists those there are.")
        return self._named[name].ref
