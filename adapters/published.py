"""A registry's entries in memory, kept the same as the text that is stored of them, whoever stores it.

A change begins from what is stored, and is published whole or taken back. Knows entries and `RegistryState`; what a
change means is `adapters.registry`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.registry_entries import Adapter, decoded, encoded, entry_of
from adapters.registry_state import Change, RegistryState


class PublishedEntries:
    """The entries of one registry. All of it is read and changed under ``lock``.

    Attributes:
        adapters: by name.
        default: the adapter that serves requests which name none; None means the base model.
        retired: the next version of adapters that were removed: their numbers are not given again.
    """

    def __init__(self, state: RegistryState) -> None:
        self.lock = threading.Lock()
        self.adapters: dict[str, Adapter] = {}
        self.default: str | None = None
        self.retired: dict[str, int] = {}
        self._stored: dict[str, str] = {}  # each adapter as it stands in the state: a write encodes only what changed
        self._change: Change | None = None  # under way
        self._taken: bytes | None = None  # the stored text that memory was last known to be
        self._state = state
        self._take(state.read())

    def refresh(self) -> bool:
        """Take over what other processes have changed; whether they have changed anything. Under the lock."""
        others = self._state.others()
        if others is not None:
            self._take(others)
        return others is not None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Held while entries are changed. When that cannot be published, memory goes back to what is stored."""
        with self.lock:
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

    def write(self, changed: str | None = None) -> None:
        """Have the state published when the change under way ends; ``changed``: the adapter that is not as it was."""
        assert self._change is not None  # noqa: S101 - the callers' duty
        if changed in self.adapters:
            self._stored[changed] = entry_of(self.adapters[changed])
        elif changed is not None:
            del self._stored[changed]
        self._change.text = encoded(self._stored, self.default, self.retired)

    @property
    def is_published(self) -> bool:
        """Whether anything is stored of this registry."""
        return self._taken is not None

    def folders(self) -> set[str]:
        """The names of the files of all versions. Under the lock."""
        return {version.folder for adapter in self.adapters.values() for version in adapter.versions.values()}

    def _take_back(self) -> None:
        try:
            self._take(self._state.read())
        except Exception:  # it cannot even be read now; the next change looks again
            self._take(self._taken)

    def _take(self, text: bytes | None) -> None:
        """Let memory be what is stored."""
        self.adapters, self._stored, self.default, self.retired = {}, {}, None, {}
        self._taken = text
        if text is not None:
            self.adapters, self._stored, self.default, self.retired = decoded(text)
