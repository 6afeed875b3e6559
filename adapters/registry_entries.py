"""What a registry keeps of adapters and their versions, and the text that it is kept as.

Entries change in `adapters.registry` only. Knows names, numbers and JSON; knows no files and no models.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from adapters.engine import AdapterRef
from adapters.errors import InvalidAdapterName, RegistryDamaged
from adapters.lineage import Lineage
from adapters.trial import MOST_EVENTS, AdapterEvent, EventKind, Trial
from adapters.version_files import KeptFiles, VersionFiles

BASE = "base"
RESERVED = frozenset({BASE, "default"})
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class AdapterVersion:
    """An immutable version: what was uploaded, or trained here; ``lineage`` tells of the training.

    Attributes:
        sha256: of its weights.
        folder: its files' name, made here: see `adapters.version_files`.
        config_sha256: of its config; None: it was registered before that was noted.
    """

    version: int
    sha256: str
    folder: str
    bytes: int
    rank: int
    created_at: float
    lineage: Lineage | None = None
    kind: str = "lora"
    config_sha256: str | None = None


@dataclass
class Adapter:
    """A named adapter.

    Attributes:
        active: the version that serves its bare name.
        history: the versions active before.
        pinned: versions that are to stay in memory.
        trial: the version on trial beside the active one.
        events: what happened to it, oldest first.
    """

    name: str
    active: int | None = None
    next_version: int = 1
    history: list[int] = field(default_factory=list)
    versions: dict[int, AdapterVersion] = field(default_factory=dict)
    pinned: list[int] = field(default_factory=list)
    trial: Trial | None = None
    events: list[AdapterEvent] = field(default_factory=list)

    def note(self, kind: EventKind, version: int, before: int | None, reason: str) -> None:
        """Add to what happened; the oldest is forgotten."""
        self.events = [*self.events[1 - MOST_EVENTS :], AdapterEvent(time.time(), kind, version, before, reason)]


@dataclass(frozen=True)
class Selection:
    """What a request runs on: a version of an adapter, held for as long as the request lasts.

    Attributes:
        arm: of the bare name: whether the active version or the one on trial answers. None: the version was named.
        shadow: what is to answer too, unseen.
    """

    name: str
    version: int
    ref: AdapterRef
    arm: Literal["active", "canary"] | None = None
    shadow: Selection | None = None


def check_name(name: str) -> None:
    """Refuse what cannot name an adapter. Raises InvalidAdapterName."""
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InvalidAdapterName(
            f"{name!r} cannot name an adapter: use 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or "
            f"digit; {' and '.join(sorted(RESERVED))} are reserved."
        )


def ref_of(files: VersionFiles, owner: str, name: str, version: AdapterVersion) -> AdapterRef:
    """What engines know a version of the adapter ``name`` by."""
    kept = KeptFiles(version.folder, version.sha256, version.config_sha256)
    return files.ref(kept, _known_as(owner, name, version.version))


def entry_of(adapter: Adapter) -> str:
    """An adapter as it stands in a registry's state."""
    return json.dumps(asdict(adapter))


def encoded(entries: Mapping[str, str], default: str | None, retired: Mapping[str, int]) -> bytes:
    """A registry's state: what `entry_of` made of each adapter, by its name, and the rest."""
    adapters = ",\n".join(f"{json.dumps(name)}: {entry}" for name, entry in entries.items())
    rest = json.dumps({"default": default, "retired": retired})
    return f'{rest[:-1]}, "adapters": {{\n{adapters}\n}}}}\n'.encode()


def decoded(text: bytes) -> tuple[dict[str, Adapter], dict[str, str], str | None, dict[str, int]]:
    """What `encoded` made a text of: the adapters, their entries, the default and the numbers that are retired. Raises
    RegistryDamaged where it made no such text."""
    with _as_it_was_written():
        return _decoded(json.loads(text))


def _decoded(
    state: dict[str, Any],
) -> tuple[dict[str, Adapter], dict[str, str], str | None, dict[str, int]]:
    adapters: dict[str, Adapter] = {}
    for name, entry in state["adapters"].items():
        versions = {int(number): _version(version) for number, version in entry["versions"].items()}
        trial = Trial(**entry["trial"]) if entry.get("trial") else None
        events = [AdapterEvent(**event) for event in entry.get("events", ())]
        adapters[name] = Adapter(**{**entry, "versions": versions, "trial": trial, "events": events})
    entries = {name: json.dumps(entry) for name, entry in state["adapters"].items()}
    return adapters, entries, state["default"], state["retired"]


def pinned_in(text: bytes | None, files: VersionFiles, owner: str = "") -> list[AdapterRef]:
    """The pinned versions of a registry that need not be open; ``text``: what its state says. Raises
    RegistryDamaged."""
    return [
        files.ref(kept, _known_as(owner, name, number))
        for name, number, kept, is_pinned in _versions_in(text)
        if is_pinned
    ]


def registered_in(text: bytes | None, files: VersionFiles) -> list[AdapterRef]:
    """All versions of a registry, likewise. Raises RegistryDamaged."""
    return [files.ref(kept, _known_as("", name, number)) for name, number, kept, _ in _versions_in(text)]


def files_in(text: bytes | None) -> list[KeptFiles]:
    """The files of all versions of a registry, likewise. Raises RegistryDamaged."""
    return [kept for _, _, kept, _ in _versions_in(text)]


@contextmanager
def _as_it_was_written() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryDamaged from error


def _versions_in(text: bytes | None) -> list[tuple[str, int, KeptFiles, bool]]:
    """The adapter, number and files of every version a registry names, and whether it is pinned."""
    if text is None:
        return []
    with _as_it_was_written():
        return list(_each_version(json.loads(text)))


def _each_version(state: dict[str, Any]) -> Iterator[tuple[str, int, KeptFiles, bool]]:
    for name, adapter in state["adapters"].items():
        for number, version in adapter["versions"].items():
            kept = KeptFiles(version["folder"], version["sha256"], version.get("config_sha256"))
            yield name, int(number), kept, int(number) in adapter.get("pinned", ())


def _known_as(owner: str, name: str, number: int) -> str:
    return f"{owner}/{name}@{number}" if owner else f"{name}@{number}"


def _version(stored: dict[str, Any]) -> AdapterVersion:
    lineage = stored.get("lineage")
    return AdapterVersion(**{**stored, "lineage": None if lineage is None else Lineage.read(lineage)})
