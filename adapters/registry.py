"""A named set of adapters on disk: immutable versions, a pointer to the active one, a default.

One registry is one folder. Its state (`adapters.registry_state`) is the truth and is replaced atomically; a version's
folder is complete before the registry names it, and folders it does not name are swept when the registry is opened.
Folder names are made here; no client's string is ever joined to a path. Knows files and names; knows no models and no
tenants.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.engine import AdapterFacts, AdapterRef
from adapters.errors import (
    InvalidAdapterName,
    NoActiveVersion,
    NoEarlierVersion,
    TooManyVersions,
    UnknownAdapter,
    VersionInUse,
)
from adapters.lineage import Lineage
from adapters.registry_state import Change, FileState, RegistryState, sync_folder, write_durably
from adapters.trial import MOST_EVENTS, AdapterEvent, EventKind, Trial, TrialMode

BASE = "base"
RESERVED = frozenset({BASE, "default"})
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_LONGEST_ADDING_SECONDS = 3600.0
_NAMED = 20  # adapters that a message names at most


@dataclass(frozen=True)
class AdapterVersion:
    """An immutable version: what was uploaded, or trained here; ``lineage`` tells of the training."""

    version: int
    sha256: str
    folder: str
    bytes: int
    rank: int
    created_at: float
    lineage: Lineage | None = None
    kind: str = "lora"


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


class AdapterRegistry:
    """The adapters in one folder. Safe for many threads, and for as many processes as its state is.

    Args:
        owner: an opaque word before the names by which others than this registry know its versions.
        state: where its state lies; by default in a file of the folder, which then belongs to this process.
    """

    def __init__(self, folder: Path, owner: str = "", state: RegistryState | None = None) -> None:
        self._folder, self._owner = folder, owner
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._adapters: dict[str, Adapter] = {}
        self._default: str | None = None
        self._retired: dict[str, int] = {}
        self._stored: dict[str, str] = {}  # each adapter as it stands in the state: a write encodes only what changed
        self._change: Change | None = None  # under way
        self._taken: bytes | None = None  # the stored text that memory was last known to be
        self._state = FileState(folder) if state is None else state
        self._take(self._state.read())
        self._sweep()

    def refresh(self) -> bool:
        """Take over what other processes have changed; whether they have changed anything."""
        with self._lock:
            others = self._state.others()
            if others is not None:
                self._take(others)
            return others is not None

    def names(self) -> list[str]:
        """Names of all adapters, sorted."""
        with self._lock:
            return sorted(self._adapters)

    def get(self, name: str) -> Adapter:
        """One adapter. Raises UnknownAdapter."""
        with self._lock:
            return self._get(name)

    @property
    def default(self) -> str | None:
        """The adapter that serves requests which name none; None means the base model."""
        return self._default

    def select(self, wanted: str | None, key: str | None = None) -> Selection | None:
        """What ``name``, ``name@version``, ``base`` or None (the default) stands for now; None is the base model.

        Args:
            key: decides whether a request for a bare name takes part in a trial; None never does.

        Raises:
            UnknownAdapter: no such adapter or version, or the adapter has no active version.
        """
        with self._lock:
            wanted = wanted if wanted is not None else self._default
            if wanted is None or wanted == BASE:
                return None
            name, at, number = wanted.partition("@")
            adapter = self._get(name)
            if at:
                version = self._version(adapter, number)
                return Selection(name, version.version, self.ref(name, version))
            if adapter.active is None:
                raise UnknownAdapter(
                    f"Adapter {name!r} has no active version; promote one of {sorted(adapter.versions)} first, "
                    f"or ask for {name}@{max(adapter.versions)}.",
                    self._selectable(),
                )
            version, trial = adapter.versions[adapter.active], adapter.trial
            if trial is None or key is None or not trial.takes(key):
                return Selection(name, version.version, self.ref(name, version), "active")
            tried = adapter.versions[trial.version]
            if trial.mode == "canary":
                return Selection(name, tried.version, self.ref(name, tried), "canary")
            shadow = Selection(name, tried.version, self.ref(name, tried))
            return Selection(name, version.version, self.ref(name, version), "active", shadow)

    def add(
        self,
        name: str,
        config: bytes,
        weights: bytes,
        check: Callable[[Path], AdapterFacts],
        lineage: Lineage | None = None,
        most: int | None = None,
    ) -> AdapterVersion:
        """Register a new version; nothing is kept when ``check`` refuses it.

        A version that the lineage's job has made before is answered as it stands: a job that goes on after a crash
        registers once.

        Args:
            most: versions that may be kept of all adapters together; None: any number.

        Raises:
            InvalidAdapterName: the name is malformed or reserved.
            InvalidAdapter: from ``check``.
            TooManyVersions
        """
        check_name(name)
        if lineage is not None and lineage.job_id is not None and lineage.origin == "trained":
            made = self.made_by(name, lineage.job_id)
            if made is not None:
                return made
        self.refuse_over(most)
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        try:
            write_durably(folder / ADAPTER_CONFIG, config)
            write_durably(folder / ADAPTER_WEIGHTS, weights)
            facts = check(folder)
            sync_folder(folder)
            with self._changing():
                self._refuse_over(most)
                adapter = self._adapters.get(name) or Adapter(name, next_version=self._retired.pop(name, 1))
                version = AdapterVersion(
                    adapter.next_version,
                    facts.sha256,
                    folder.name,
                    facts.bytes,
                    facts.rank,
                    time.time(),
                    lineage,
                    facts.kind,
                )
                adapter.versions[version.version] = version
                adapter.next_version += 1
                self._adapters[name] = adapter
                self._write(name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return version

    def count(self) -> int:
        """How many versions there are of all adapters together."""
        with self._lock:
            return self._count()

    def refuse_over(self, most: int | None) -> None:
        """Raise TooManyVersions when ``most`` are kept already."""
        with self._lock:
            self._refuse_over(most)

    def _count(self) -> int:
        return sum(len(adapter.versions) for adapter in self._adapters.values())

    def _refuse_over(self, most: int | None) -> None:
        if most is not None and (used := self._count()) >= most:
            raise TooManyVersions(most, used)

    def made_by(self, name: str, job_id: str) -> AdapterVersion | None:
        """The version of an adapter that a training job made; None when there is none."""
        with self._lock:
            adapter = self._adapters.get(name)
            versions = adapter.versions.values() if adapter is not None else ()
            lineages = ((version, version.lineage) for version in versions)
            return next((v for v, of in lineages if of and of.origin == "trained" and of.job_id == job_id), None)

    def promote(self, name: str, number: int | str, reason: str = "") -> AdapterVersion:
        """Make a version the active one; a trial of it ends. Raises UnknownAdapter."""
        with self._changing():
            adapter = self._get(name)
            version = self._version(adapter, str(number))
            if adapter.active != version.version:
                if adapter.active is not None:
                    adapter.history.append(adapter.active)
                adapter.note("promoted", version.version, adapter.active, reason)
                adapter.active = version.version
                if adapter.trial is not None and adapter.trial.version == adapter.active:
                    adapter.trial = None
                self._write(name)
            return version

    def rollback(self, name: str, reason: str = "") -> AdapterVersion:
        """Make the version active that was so before. Raises UnknownAdapter, NoEarlierVersion."""
        with self._changing():
            adapter = self._get(name)
            if not adapter.history:
                raise NoEarlierVersion(f"Adapter {name!r} has no earlier active version to roll back to.")
            before, adapter.active = adapter.active, adapter.history.pop()
            adapter.note("rolled_back", adapter.active, before, reason)
            if adapter.trial is not None and adapter.trial.version == adapter.active:
                adapter.trial = None
            self._write(name)
            return adapter.versions[adapter.active]

    def withdraw(self, name: str, unfit: Collection[int], reason: str) -> None:
        """Let versions serve no more: a trial of one ends, and an active one gives its place to the last version before
        it that may serve, or to none. What may not serve is no longer there to roll back to.

        Raises:
            UnknownAdapter: no such adapter.
        """
        with self._changing():
            adapter = self._get(name)
            history = [version for version in adapter.history if version not in unfit]
            if adapter.trial is not None and (adapter.trial.version in unfit or adapter.active in unfit):
                adapter.note("trial_ended", adapter.trial.version, adapter.active, reason)
                adapter.trial = None
            elif adapter.active not in unfit and history == adapter.history:
                return
            if adapter.active in unfit:
                before, adapter.active = adapter.active, history.pop() if history else None
                if adapter.active is None:
                    assert before is not None  # noqa: S101 - what is among the unfit is a number
                    adapter.note("withdrawn", before, before, reason)
                else:
                    adapter.note("rolled_back", adapter.active, before, reason)
            adapter.history = history
            self._write(name)

    def note(self, name: str, kind: EventKind, version: int, reason: str) -> bool:
        """Keep that something happened to a version, once: false when the same was noted before. Raises
        UnknownAdapter."""
        with self._changing():
            adapter = self._get(name)
            if any((e.kind, e.version, e.reason) == (kind, version, reason) for e in adapter.events):
                return False
            adapter.note(kind, version, adapter.active, reason)
            self._write(name)
            return True

    def try_out(self, name: str, number: int, percent: float, mode: TrialMode) -> Adapter:
        """Put a version on trial beside the active one, instead of any other; 0 percent ends the trial.

        Raises:
            UnknownAdapter: no such adapter or version.
            NoActiveVersion: there is nothing it could stand beside.
            VersionInUse: it is the active version.
        """
        with self._changing():
            adapter = self._get(name)
            version = self._version(adapter, str(number)).version
            if percent <= 0:
                self._end_trial(adapter, "trial_ended", "")
                return adapter
            if adapter.active is None:
                raise NoActiveVersion(f"Adapter {name!r} has no active version to try another beside; promote one.")
            if version == adapter.active:
                raise VersionInUse(f"{name}@{version} is the active version; put another one on trial.")
            adapter.trial = Trial(version, percent, mode, time.time())
            adapter.note("trial_started", version, adapter.active, f"{mode}, {percent:g} %")
            self._write(name)
            return adapter

    def end_trial(self, name: str, trial: Trial, reason: str) -> bool:
        """Take a version back that did not do well; false when that trial has ended already."""
        with self._changing():
            adapter = self._adapters.get(name)
            if adapter is None or adapter.trial != trial:
                return False
            self._end_trial(adapter, "trial_rolled_back", reason)
            return True

    def _end_trial(self, adapter: Adapter, kind: EventKind, reason: str) -> None:
        if adapter.trial is not None:
            adapter.note(kind, adapter.trial.version, adapter.active, reason)
            adapter.trial = None
            self._write(adapter.name)

    def remove_version(self, name: str, number: int) -> AdapterRef:
        """Forget a version and delete its files; its number is not given again. Answers what engines know it by.

        Raises:
            UnknownAdapter: no such adapter or version.
            VersionInUse: it is active, or on trial.
        """
        with self._changing():
            adapter = self._get(name)
            version = self._version(adapter, str(number))
            on_trial = adapter.trial is not None and adapter.trial.version == version.version
            if version.version == adapter.active or on_trial:
                what = "on trial; end that first" if on_trial else "active; promote another, or delete the adapter"
                raise VersionInUse(f"{name}@{version.version} is {what}.")
            del adapter.versions[version.version]
            adapter.history = [each for each in adapter.history if each != version.version]
            adapter.pinned = [each for each in adapter.pinned if each != version.version]
            adapter.note("version_deleted", version.version, adapter.active, "")
            if adapter.versions:
                self._write(name)
            else:
                del self._adapters[name]
                self._retired[name] = adapter.next_version
                self._write(name)
        shutil.rmtree(self._folder / version.folder, ignore_errors=True)
        return self.ref(name, version)

    def set_default(self, name: str | None) -> None:
        """Choose the adapter for requests that name none; None or ``base`` is the base model.

        Raises:
            UnknownAdapter: no such adapter.
            NoActiveVersion: it has no active version.
        """
        with self._changing():
            if name is not None and name != BASE:
                adapter = self._get(name)
                if adapter.active is None:
                    raise NoActiveVersion(f"Promote a version of {name!r} before making it the default.")
            self._default = None if name == BASE else name
            self._write()

    def pin(self, name: str, number: int | None, *, pinned: bool = True) -> AdapterVersion:
        """Note that a version, by default the active one, is to stay in memory, or no longer.

        Raises:
            UnknownAdapter: no such adapter or version.
            NoActiveVersion: no version was named and none is active.
        """
        with self._changing():
            adapter = self._get(name)
            if number is None and adapter.active is None:
                raise NoActiveVersion(f"Adapter {name!r} has no active version; name the version to pin.")
            version = self._version(adapter, str(adapter.active if number is None else number))
            if pinned != (version.version in adapter.pinned):
                (adapter.pinned.append if pinned else adapter.pinned.remove)(version.version)
                self._write(name)
            return version

    def pinned(self) -> list[AdapterRef]:
        """Every version that is to stay in memory."""
        with self._lock:
            return [self.ref(a.name, a.versions[number]) for a in self._adapters.values() for number in a.pinned]

    def remove(self, name: str) -> list[AdapterRef]:
        """Forget an adapter and delete its versions; its numbers are not given again, not even to a new adapter of
        the same name. A default that named it becomes the base. Raises UnknownAdapter.

        Returns:
            What engines know the versions by, so that they can let go of them.
        """
        with self._changing():
            adapter = self._get(name)
            del self._adapters[name]
            self._retired[name] = adapter.next_version
            if self._default == name:
                self._default = None
            self._write(name)
        for version in adapter.versions.values():
            shutil.rmtree(self._folder / version.folder, ignore_errors=True)
        return [self.ref(name, version) for version in adapter.versions.values()]

    def _get(self, name: str) -> Adapter:
        adapter = self._adapters.get(name)
        if adapter is None:
            available = self._selectable()
            has, more = ", ".join(available[:_NAMED]), len(available) - _NAMED
            has += f" and {more} more" if more > 0 else ""
            raise UnknownAdapter(f"There is no adapter {name[:80]!r}. You can use: {has}.", available)
        return adapter

    def _version(self, adapter: Adapter, number: str) -> AdapterVersion:
        version = adapter.versions.get(int(number)) if re.fullmatch("[1-9][0-9]{0,8}", number) else None
        if version is None:
            raise UnknownAdapter(
                f"Adapter {adapter.name!r} has no version {number[:80]!r}; it has {sorted(adapter.versions)}.",
                self._selectable(),
            )
        return version

    def _selectable(self) -> list[str]:
        return [BASE, *sorted(self._adapters)]

    def refs(self) -> list[AdapterRef]:
        """Every version there is."""
        with self._lock:
            return [self.ref(a.name, version) for a in self._adapters.values() for version in a.versions.values()]

    def ref(self, name: str, version: AdapterVersion) -> AdapterRef:
        """What engines know a version of the adapter ``name`` by."""
        return _ref(self._folder, self._owner, name, version.version, version.sha256, version.folder)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Held while the state is changed, which begins from what is stored, whoever stored it. When it cannot be
        published, memory goes back to what is stored."""
        with self._lock:
            try:
                with self._state.changing() as self._change:
                    if self._change.others is not None:
                        self._take(self._change.others)
                    yield
                self._taken = self._change.text or self._taken
            except BaseException:
                if self._change is not None and self._change.text is not None:
                    self._take_back()
                raise
            finally:
                self._change = None

    def _take_back(self) -> None:
        try:
            self._take(self._state.read())
        except Exception:  # it cannot even be read now; the next change looks again
            self._take(self._taken)

    def _write(self, changed: str | None = None) -> None:
        """Have the state published when the change under way ends."""
        assert self._change is not None  # noqa: S101 - the callers' duty
        if changed in self._adapters:
            self._stored[changed] = json.dumps(asdict(self._adapters[changed]))
        elif changed is not None:
            del self._stored[changed]
        adapters = ",\n".join(f"{json.dumps(name)}: {entry}" for name, entry in self._stored.items())
        rest = json.dumps({"default": self._default, "retired": self._retired})
        self._change.text = f'{rest[:-1]}, "adapters": {{\n{adapters}\n}}}}\n'.encode()

    def _take(self, text: bytes | None) -> None:
        """Let memory be what is stored."""
        self._adapters, self._default, self._retired, self._stored = {}, None, {}, {}
        self._taken = text
        if text is None:
            return
        state = json.loads(text)
        for name, entry in state["adapters"].items():
            versions = {int(number): _version(version) for number, version in entry["versions"].items()}
            trial = Trial(**entry["trial"]) if entry.get("trial") else None
            events = [AdapterEvent(**event) for event in entry.get("events", ())]
            self._adapters[name] = Adapter(**{**entry, "versions": versions, "trial": trial, "events": events})
            self._stored[name] = json.dumps(entry)
        self._default, self._retired = state["default"], state["retired"]

    def _sweep(self) -> None:
        """Delete what no version names. Where other processes add versions too, it must have lain there for long."""
        is_ours = isinstance(self._state, FileState)
        latest = time.time() - (0.0 if is_ours else _LONGEST_ADDING_SECONDS)
        named = {v.folder for a in self._adapters.values() for v in a.versions.values()}
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process has swept it
                if folder.is_dir() and folder.name not in named and (is_ours or folder.stat().st_mtime < latest):
                    shutil.rmtree(folder, ignore_errors=True)
        if isinstance(self._state, FileState):
            self._state.sweep()


def check_name(name: str) -> None:
    """Refuse what cannot name an adapter. Raises InvalidAdapterName."""
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InvalidAdapterName(
            f"{name!r} cannot name an adapter: use 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or "
            f"digit; {' and '.join(sorted(RESERVED))} are reserved."
        )


def _version(stored: dict[str, Any]) -> AdapterVersion:
    lineage = stored.get("lineage")
    return AdapterVersion(**{**stored, "lineage": None if lineage is None else Lineage.read(lineage)})


def pinned_in(text: bytes | None, folder: Path, owner: str = "") -> list[AdapterRef]:
    """The pinned versions of the registry in ``folder``, which need not be open; ``text``: what its state says."""
    return [ref for ref, pinned in _versions_in(text, folder, owner) if pinned]


def registered_in(text: bytes | None, folder: Path) -> list[AdapterRef]:
    """All versions of the registry in ``folder``, likewise."""
    return [ref for ref, _ in _versions_in(text, folder, "")]


def _versions_in(text: bytes | None, folder: Path, owner: str) -> list[tuple[AdapterRef, bool]]:
    """The versions a registry names, and whether each is pinned."""
    if text is None:
        return []
    state = json.loads(text)
    return [
        (
            _ref(folder, owner, name, int(number), version["sha256"], version["folder"]),
            int(number) in adapter.get("pinned", ()),
        )
        for name, adapter in state["adapters"].items()
        for number, version in adapter["versions"].items()
    ]


def _ref(root: Path, owner: str, name: str, number: int, sha256: str, folder: str) -> AdapterRef:
    return AdapterRef(sha256, root / folder, f"{owner}/{name}@{number}" if owner else f"{name}@{number}")
