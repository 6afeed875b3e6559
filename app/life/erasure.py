"""Documents that were deleted or replaced, the adapter versions that were trained on them, and what the tenant wants.

A trigger keeps a document's id and hash when it goes, in the very transaction; which versions are tainted follows from
that and from their lineage, so no crash can part the two. Knows rows, lineages and the registry; how a version is
trained again is handed in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

from adapters import AdapterRegistry, AdapterVersion, Lineage, Selection
from adapters.errors import AdapterError, ModelUnavailable
from app.datasets import DatasetError
from app.life.errors import VersionTainted
from app.life.policy import PolicyStore
from app.limits import QuotaExceeded
from app.tasks import TooManyTasks
from ingest import STORAGE_ERRORS, Database, DatabaseClosed

_log = logging.getLogger("lorebase.erasure")
_ASKED_AT_ONCE = 500  # documents in one statement
ERASURE_MIGRATIONS = [
    """
    CREATE TABLE erased_documents (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        document_id TEXT NOT NULL,
        sha256 TEXT NOT NULL,           -- of the content that is gone
        cause TEXT NOT NULL,            -- deleted or replaced
        at REAL NOT NULL
    );
    CREATE INDEX erased_documents_by_id ON erased_documents (document_id);

    CREATE TRIGGER document_deleted AFTER DELETE ON documents WHEN old.status = 'ready' BEGIN
        INSERT INTO erased_documents (document_id, sha256, cause, at)
        VALUES (old.id, old.sha256, 'deleted', (julianday('now') - 2440587.5) * 86400);
    END;
    CREATE TRIGGER document_replaced AFTER UPDATE OF sha256 ON documents WHEN old.sha256 <> new.sha256 BEGIN
        INSERT INTO erased_documents (document_id, sha256, cause, at)
        VALUES (old.id, old.sha256, 'replaced', (julianday('now') - 2440587.5) * 86400);
    END;

    CREATE TABLE retrainings (          -- what was done about a tainted version, so that it is done once
        adapter TEXT NOT NULL,
        version INTEGER NOT NULL,
        erased INTEGER NOT NULL,        -- the last erased document that it took account of
        at REAL NOT NULL,
        PRIMARY KEY (adapter, version)
    ) WITHOUT ROWID;
    """
]


class Erased(NamedTuple):
    """A document whose content is gone. ``at``: seconds since 1970."""

    number: int
    document_id: str
    sha256: str
    cause: Literal["deleted", "replaced"]
    at: float


class Choice(NamedTuple):
    """What a request runs on, None for the base, and what a person should know of it."""

    selection: Selection | None
    warnings: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        """What the response's headers say of it."""
        used = f"{self.selection.name}@{self.selection.version}" if self.selection else "base"
        return {"X-Adapter-Used": used, **({"X-Adapter-Warning": "; ".join(self.warnings)} if self.warnings else {})}


@dataclass(frozen=True, slots=True)
class _Known:
    latest: int
    erased: tuple[Erased, ...]


class Erasures:
    """What one tenant's erased documents mean for its adapters.

    Args:
        retrain: queues a training like the one that made a version of an adapter, without what was erased.
        taken: a block that is true for one process at a time, given what it is taken for.
    """

    def __init__(
        self,
        database: Database,
        registry: AdapterRegistry,
        policy: PolicyStore,
        retrain: Callable[[str, AdapterVersion], None],
        taken: Callable[[Literal["retraining"]], AbstractContextManager[bool]] = lambda _: nullcontext(True),
    ) -> None:
        self._database = database
        self._registry = registry
        self._policy = policy
        self._retrain = retrain
        self._taken = taken
        self._known: dict[str, _Known] = {}  # by folder of a version, which is never given twice
        self._settling = threading.Lock()
        self._settled = -1  # the last erased document that was settled

    def latest(self) -> int:
        """The number of the document that was erased last; 0 when none was."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM erased_documents").fetchone()[0])

    def among(self, documents: Collection[tuple[str, str | None]]) -> tuple[Erased, ...]:
        """Those of some documents, by id and hash of the content that counts, that are erased. Where the hash is not
        known any content of that document counts."""
        asked, ids = set(documents), sorted({document_id for document_id, _ in documents})
        found: list[Erased] = []
        with self._database.read() as connection:
            for first in range(0, len(ids), _ASKED_AT_ONCE):
                some = ids[first : first + _ASKED_AT_ONCE]
                rows = connection.execute(
                    "SELECT number, document_id, sha256, cause, at FROM erased_documents "  # noqa: S608
                    f"WHERE document_id IN ({', '.join('?' * len(some))})",
                    some,
                )
                found += [Erased(*row) for row in rows]
        return tuple(e for e in sorted(found) if asked & {(e.document_id, e.sha256), (e.document_id, None)})

    def of(self, version: AdapterVersion) -> tuple[Erased, ...]:
        """The erased documents that a version was trained on; empty: it is not tainted."""
        lineage = version.lineage
        if lineage is None or not lineage.documents:
            return ()
        latest, known = self.latest(), self._known.get(version.folder)
        if known is None or known.latest != latest:
            known = self._known[version.folder] = _Known(latest, self.among(_documents(lineage)))
        return known.erased

    def choose(self, wanted: str | None, key: str | None = None) -> Choice:
        """What a request runs on: see `AdapterRegistry.select`. What may not serve is never chosen.

        Raises:
            UnknownAdapter: see `AdapterRegistry.select`.
            VersionTainted: the tenant blocks versions that were trained on erased documents, and this is one.
        """
        if self._settled != self.latest():
            self.settle()
        if self._policy.current.on_erasure == "block":
            default = self._registry.default
            if wanted is None and default is not None and self._registry.get(default).active is None:
                return Choice(None, (f"The base model answered: no version of the default adapter {default!r} may "
                                     "serve, since a document it was trained on was erased.",))  # fmt: skip
            if wanted is not None:
                self._refuse_blocked(wanted)
        selection = self._registry.select(wanted, key)
        if selection is None:
            return Choice(None, ())
        erased = self.of(self._registry.get(selection.name).versions[selection.version])
        told = f"{selection.name}@{selection.version} was trained on {_counted(len(erased))} erased since."
        return Choice(selection, (told,) if erased else ())

    def refuse_blocked(self, name: str, number: int) -> None:
        """Raise VersionTainted when this version may not serve."""
        if self._policy.current.on_erasure == "block":
            self._refuse_blocked(f"{name}@{number}")

    def settle(self) -> list[str]:
        """Do what the tenant's policy asks about versions that are tainted by now: note it, take them out of service,
        or train them again. What was done is not done again, so call it whenever a document may have gone.

        Returns:
            the versions that were tainted since, as ``name@version``.
        """
        with self._settling:
            noted: list[str] = []
            decided, latest = self._policy.current.on_erasure, self.latest()
            all_done = True
            for name in self._registry.names():
                adapter = self._registry.get(name)
                tainted = {v.version: found for v in list(adapter.versions.values()) if (found := self.of(v))}
                for number, found in tainted.items():
                    if self._registry.note(name, "tainted", number, _reason(found)):
                        noted.append(f"{name}@{number}")
                if decided == "block" and tainted:
                    told = "trained on a document that was erased since; the policy is to block such versions"
                    self._registry.withdraw(name, tainted, told)
                elif decided == "retrain" and adapter.active in tainted:
                    last = tainted[adapter.active][-1].number
                    with self._taken("retraining") as ours:
                        all_done &= ours and self._train_again(name, adapter.versions[adapter.active], last)
            self._settled = latest if all_done else -1
            return noted

    def look(self) -> None:
        """As `settle`, from the background: a disk that fails is tried again by the next request."""
        try:
            self.settle()
        except (*STORAGE_ERRORS, DatabaseClosed) as error:
            _log.warning("erased documents could not be settled: %s", error)

    def _refuse_blocked(self, wanted: str) -> None:
        name, at, _ = wanted.partition("@")
        if name not in self._registry.names():
            return
        adapter = self._registry.get(name)
        if at:
            selection = self._registry.select(wanted)
            version = adapter.versions[selection.version] if selection is not None else None
        else:
            version = None if adapter.active is not None else max(adapter.versions.values(), key=lambda v: v.version)
        if version is not None and (erased := self.of(version)):
            raise VersionTainted(
                f"{name}@{version.version} was trained on {_counted(len(erased))} erased since, and this tenant's "
                f"policy is to block such versions. Ask for another version or for 'base', train {name} again (what "
                "was erased is left out), or set on_erasure with PUT /policy."
            )

    def _train_again(self, name: str, version: AdapterVersion, erased: int) -> bool:
        """False: it must be tried again later."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT erased FROM retrainings WHERE adapter = ? AND version = ?", (name, version.version)
            ).fetchone()
        if row is not None and row["erased"] >= erased:
            return True
        try:
            self._retrain(name, version)
        except (TooManyTasks, ModelUnavailable, QuotaExceeded):
            return False
        except (AdapterError, DatasetError) as error:
            self._registry.note(name, "not_retrained", version.version, str(error))
        else:
            self._registry.note(name, "retraining", version.version, f"without what was erased up to no. {erased}")
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO retrainings (adapter, version, erased, at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (adapter, version) DO UPDATE SET erased = excluded.erased, at = excluded.at",
                (name, version.version, erased, time.time()),
            )
        return True


def _documents(lineage: Lineage) -> list[tuple[str, str | None]]:
    return [(document_id, lineage.document_sha256.get(document_id)) for document_id in lineage.documents]


def _counted(documents: int) -> str:
    return "a document" if documents == 1 else f"{documents} documents"


def _reason(found: tuple[Erased, ...]) -> str:
    return f"trained on {_counted(len(found))} erased since: {', '.join(e.document_id for e in found[:5])}"
