"""A named set of adapters: immutable versions, a pointer to the active one, a default.

Its state (`adapters.registry_state`) is the truth and is replaced atomically; a version's files
(`adapters.version_files`) are complete before the registry names them, and files it does not name are swept when the
registry is opened. Knows names, numbers and what happened to them; knows no models and no tenants.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection
from pathlib import Path

from adapters.engine import AdapterRef
from adapters.errors import (
    NoActiveVersion,
    NoEarlierVersion,
    TooManyVersions,
    UnknownAdapter,
    VersionInUse,
)
from adapters.lineage import Lineage
from adapters.published import PublishedEntries
from adapters.registry_entries import BASE, Adapter, AdapterVersion, Selection, check_name, ref_of
from adapters.registry_state import FileState, RegistryState
from adapters.trial import EventKind, Trial, TrialMode
from adapters.version_files import Check, FolderFiles, VersionFiles

_LONGEST_ADDING_SECONDS = 3600.0
_NAMED = 20  # adapters that a message names at most


class AdapterRegistry:
    """The adapters in one folder. Safe for many threads, and for as many processes as its state is.

    Args:
        owner: an opaque word before the names by which others than this registry know its versions.
        state: where its state lies; by default in a file of the folder, which then belongs to this process.
        files: where its versions' files lie; by default in the folder.
    """

    def __init__(
        self, folder: Path, owner: str = "", state: RegistryState | None = None, files: VersionFiles | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._owner = owner
        self._files = FolderFiles(folder) if files is None else files
        state = FileState(folder) if state is None else state
        self._entries = PublishedEntries(state)
        if not self._entries.is_published and not state.is_shared:
            self._files.set_aside()
        self._files.sweep(self._entries.folders(), _LONGEST_ADDING_SECONDS if state.is_shared else 0.0)
        state.sweep()

    def refresh(self) -> bool:
        """Take over what other processes have changed; whether they have changed anything."""
        with self._entries.lock:
            before = self._entries.folders()
            changed = self._entries.refresh()
            gone = before - self._entries.folders()
        for each in gone:
            self._files.forget(each)
        return changed

    def names(self) -> list[str]:
        """Names of all adapters, sorted."""
        with self._entries.lock:
            return sorted(self._entries.adapters)

    def get(self, name: str) -> Adapter:
        """One adapter. Raises UnknownAdapter."""
        with self._entries.lock:
            return self._get(name)

    @property
    def default(self) -> str | None:
        """The adapter that serves requests which name none; None means the base model."""
        return self._entries.default

    def select(self, wanted: str | None, key: str | None = None) -> Selection | None:
        """What ``name``, ``name@version``, ``base`` or None (the default) stands for now; None is the base model.

        Args:
            key: decides whether a request for a bare name takes part in a trial; None never does.

        Raises:
            UnknownAdapter: no such adapter or version, or the adapter has no active version.
        """
        with self._entries.lock:
            wanted = wanted if wanted is not None else self._entries.default
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
        check: Check,
        lineage: Lineage | None = None,
        most: int | None = None,
    ) -> AdapterVersion:
        """Register a new version; nothing is kept when ``check`` refuses it, or when its files cannot be kept.

        A version that the lineage's job has made before is answered as it stands: a job that goes on after a crash
        registers once.

        Args:
            most: versions that may be kept of all adapters together; None: any number.

        Raises:
            InvalidAdapterName: the name is malformed or reserved.
            InvalidAdapter: from ``check``.
            TooManyVersions, AdapterFilesUnavailable
        """
        check_name(name)
        if lineage is not None and lineage.job_id is not None and lineage.origin == "trained":
            made = self.made_by(name, lineage.job_id)
            if made is not None:
                return made
        self.refuse_over(most)
        folder = uuid.uuid4().hex
        with self._files.adding(folder, config, weights, check) as added, self._entries.changing():
            self._refuse_over(most)
            adapters, retired = self._entries.adapters, self._entries.retired
            adapter = adapters.get(name) or Adapter(name, next_version=retired.pop(name, 1))
            facts = added.facts
            version = AdapterVersion(
                adapter.next_version, facts.sha256, folder, facts.bytes, facts.rank, time.time(), lineage, facts.kind,
                added.config_sha256,
            )  # fmt: skip
            adapter.versions[version.version] = version
            adapter.next_version += 1
            adapters[name] = adapter
            self._entries.write(name)
        return version

    def count(self) -> int:
        """How many versions there are of all adapters together."""
        with self._entries.lock:
            return self._count()

    def refuse_over(self, most: int | None) -> None:
        """Raise TooManyVersions when ``most`` are kept already."""
        with self._entries.lock:
            self._refuse_over(most)

    def _count(self) -> int:
        return sum(len(adapter.versions) for adapter in self._entries.adapters.values())

    def _refuse_over(self, most: int | None) -> None:
        if most is not None and (used := self._count()) >= most:
            raise TooManyVersions(most, used)

    def made_by(self, name: str, job_id: str) -> AdapterVersion | None:
        """The version of an adapter that a training job made; None when there is none."""
        with self._entries.lock:
            adapter = self._entries.adapters.get(name)
            versions = adapter.versions.values() if adapter is not None else ()
            lineages = ((version, version.lineage) for version in versions)
            return next((v for v, of in lineages if of and of.origin == "trained" and of.job_id == job_id), None)

    def promote(self, name: str, number: int | str, reason: str = "") -> AdapterVersion:
        """Make a version the active one; a trial of it ends. Raises UnknownAdapter."""
        with self._entries.changing():
            adapter = self._get(name)
            version = self._version(adapter, str(number))
            if adapter.active != version.version:
                if adapter.active is not None:
                    adapter.history.append(adapter.active)
                adapter.note("promoted", version.version, adapter.active, reason)
                adapter.active = version.version
                if adapter.trial is not None and adapter.trial.version == adapter.active:
                    adapter.trial = None
                self._entries.write(name)
            return version

    def rollback(self, name: str, reason: str = "") -> AdapterVersion:
        """Make the version active that was so before. Raises UnknownAdapter, NoEarlierVersion."""
        with self._entries.changing():
            adapter = self._get(name)
            if not adapter.history:
                raise NoEarlierVersion(f"Adapter {name!r} has no earlier active version to roll back to.")
            before, adapter.active = adapter.active, adapter.history.pop()
            adapter.note("rolled_back", adapter.active, before, reason)
            if adapter.trial is not None and adapter.trial.version == adapter.active:
                adapter.trial = None
            self._entries.write(name)
            return adapter.versions[adapter.active]

    def withdraw(self, name: str, unfit: Collection[int], reason: str) -> None:
        """Let versions serve no more: a trial of one ends, and an active one gives its place to the last version before
        it that may serve, or to none. What may not serve is no longer there to roll back to.

        Raises:
            UnknownAdapter: no such adapter.
        """
        with self._entries.changing():
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
            self._entries.write(name)

    def note(self, name: str, kind: EventKind, version: int, reason: str) -> bool:
        """Keep that something happened to a version, once: false when the same was noted before. Raises
        UnknownAdapter."""
        with self._entries.changing():
            adapter = self._get(name)
            if any((e.kind, e.version, e.reason) == (kind, version, reason) for e in adapter.events):
                return False
            adapter.note(kind, version, adapter.active, reason)
            self._entries.write(name)
            return True

    def try_out(self, name: str, number: int, percent: float, mode: TrialMode) -> Adapter:
        """Put a version on trial beside the active one, instead of any other; 0 percent ends the trial.

        Raises:
            UnknownAdapter: no such adapter or version.
            NoActiveVersion: there is nothing it could stand beside.
            VersionInUse: it is the active version.
        """
        with self._entries.changing():
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
            self._entries.write(name)
            return adapter

    def end_trial(self, name: str, trial: Trial, reason: str) -> bool:
        """Take a version back that did not do well; false when that trial has ended already."""
        with self._entries.changing():
            adapter = self._entries.adapters.get(name)
            if adapter is None or adapter.trial != trial:
                return False
            self._end_trial(adapter, "trial_rolled_back", reason)
            return True

    def _end_trial(self, adapter: Adapter, kind: EventKind, reason: str) -> None:
        if adapter.trial is not None:
            adapter.note(kind, adapter.trial.version, adapter.active, reason)
            adapter.trial = None
            self._entries.write(adapter.name)

    def remove_version(self, name: str, number: int) -> AdapterRef:
        """Forget a version and delete its files; its number is not given again. Answers what engines know it by.

        Raises:
            UnknownAdapter: no such adapter or version.
            VersionInUse: it is active, or on trial.
        """
        with self._entries.changing():
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
                self._entries.write(name)
            else:
                del self._entries.adapters[name]
                self._entries.retired[name] = adapter.next_version
                self._entries.write(name)
        self._files.remove(version.folder)
        return self.ref(name, version)

    def set_default(self, name: str | None) -> None:
        """Choose the adapter for requests that name none; None or ``base`` is the base model.

        Raises:
            UnknownAdapter: no such adapter.
            NoActiveVersion: it has no active version.
        """
        with self._entries.changing():
            if name is not None and name != BASE:
                adapter = self._get(name)
                if adapter.active is None:
                    raise NoActiveVersion(f"Promote a version of {name!r} before making it the default.")
            self._entries.default = None if name == BASE else name
            self._entries.write()

    def pin(self, name: str, number: int | None, *, pinned: bool = True) -> AdapterVersion:
        """Note that a version, by default the active one, is to stay in memory, or no longer.

        Raises:
            UnknownAdapter: no such adapter or version.
            NoActiveVersion: no version was named and none is active.
        """
        with self._entries.changing():
            adapter = self._get(name)
            if number is None and adapter.active is None:
                raise NoActiveVersion(f"Adapter {name!r} has no active version; name the version to pin.")
            version = self._version(adapter, str(adapter.active if number is None else number))
            if pinned != (version.version in adapter.pinned):
                (adapter.pinned.append if pinned else adapter.pinned.remove)(version.version)
                self._entries.write(name)
            return version

    def pinned(self) -> list[AdapterRef]:
        """Every version that is to stay in memory."""
        with self._entries.lock:
            adapters = self._entries.adapters.values()
            return [self.ref(each.name, each.versions[number]) for each in adapters for number in each.pinned]

    def remove(self, name: str) -> list[AdapterRef]:
        """Forget an adapter and delete its versions; its numbers are not given again, not even to a new adapter of
        the same name. A default that named it becomes the base. Raises UnknownAdapter.

        Returns:
            What engines know the versions by, so that they can let go of them.
        """
        with self._entries.changing():
            adapter = self._get(name)
            del self._entries.adapters[name]
            self._entries.retired[name] = adapter.next_version
            if self._entries.default == name:
                self._entries.default = None
            self._entries.write(name)
        for version in adapter.versions.values():
            self._files.remove(version.folder)
        return [self.ref(name, version) for version in adapter.versions.values()]

    def _get(self, name: str) -> Adapter:
        adapter = self._entries.adapters.get(name)
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
        return [BASE, *sorted(self._entries.adapters)]

    def refs(self) -> list[AdapterRef]:
        """Every version there is."""
        with self._entries.lock:
            adapters = self._entries.adapters.values()
            return [self.ref(each.name, version) for each in adapters for version in each.versions.values()]

    def ref(self, name: str, version: AdapterVersion) -> AdapterRef:
        """What engines know a version of the adapter ``name`` by."""
        return ref_of(self._files, self._owner, name, version)
