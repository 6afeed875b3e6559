"""The processes that serve one PostgreSQL database, as one of them sees them.

Each has one connection that stays open (`ingest.postgres.PostgresSession`): it hears there what others have changed,
which triggers tell, and once a second it says that it lives, prolongs its leases and looks for work that nobody does.
Leases are rows with an end by the database's clock; no process's own clock decides. A write of work that is leased
looks at the lease in its transaction, so a process that was held up cannot disturb the one that went on.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

from app.replicas import QUEUES, Changed, Queue
from ingest import STORAGE_ERRORS, DatabaseClosed, DatabaseInUse, IncompatibleDatabase, IngestError

if TYPE_CHECKING:
    from ingest.postgres import PostgresServer

_log = logging.getLogger("lorebase.replicas")
CHANNEL = "lorebase_changes"
LEASE_SECONDS = 5.0
_BEAT_SECONDS = 1.0
_HEAR_SECONDS = 0.2  # between two looks at whether to stop
_FORGET_SECONDS = 60.0  # after which a process that was not heard of is left out
_MOST_SKEW_SECONDS = 5.0
_LOOK_SECONDS = 120.0  # between two looks at everything, should a change ever not have been told
_FOUND_AT_ONCE = 64

REPLICA_TABLES = f"""
CREATE UNLOGGED TABLE replicas (
    id text PRIMARY KEY,
    version text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNLOGGED TABLE leases (
    tenant_id text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    queue text NOT NULL,
    replica text NOT NULL,
    until timestamptz NOT NULL,
    activity text,
    PRIMARY KEY (tenant_id, queue)
);
CREATE FUNCTION tell_of_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{CHANNEL}', 'tenants ' || CASE tg_op WHEN 'DELETE' THEN old.id ELSE new.id END);
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_changed AFTER UPDATE OR DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION tell_of_tenant();
CREATE FUNCTION tell_of_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{CHANNEL}', tg_table_name || ' ' || new.tenant);
    RETURN NULL;
END $$;
"""
"""A migration of the central tables in PostgreSQL. What is unlogged is empty after a crash of the server, as it may."""

PLACE_COLUMNS = """
ALTER TABLE replicas ADD COLUMN folder text;  -- the id of what holds the adapters' files: a data folder, or their store
ALTER TABLE replicas ADD COLUMN place text;   -- where that is, for people
"""
"""Another one."""


def told_of(table: str) -> str:
    """A migration that lets processes hear of changed rows of a tenant's table."""
    return (
        f"CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION tell_of_row();"
    )


_TAKE = """
    INSERT INTO leases (tenant_id, queue, replica, until)
    SELECT id, %s, %s, clock_timestamp() + make_interval(secs => %s) FROM tenants WHERE id = %s
    ON CONFLICT (tenant_id, queue) DO UPDATE SET until = excluded.until WHERE leases.replica = excluded.replica
    RETURNING replica
"""
_TAKE_OVER = """
    UPDATE leases SET replica = ?, until = clock_timestamp() + make_interval(secs => ?), activity = NULL
    WHERE tenant_id = ? AND queue = ? AND until < clock_timestamp() RETURNING replica
"""
_PROLONG = """
    UPDATE leases SET until = clock_timestamp() + make_interval(secs => %s), activity = held.activity
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS held (tenant_id, queue, activity)
    WHERE leases.tenant_id = held.tenant_id AND leases.queue = held.queue AND replica = %s
    RETURNING leases.tenant_id, leases.queue
"""
_SAY_ALIVE = """
    INSERT INTO replicas (id, version) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
    RETURNING extract(epoch FROM clock_timestamp())::float8 AS now
"""
_JOIN = """
    INSERT INTO replicas (id, version, folder, place) VALUES (%s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET folder = excluded.folder, place = excluded.place, seen_at = clock_timestamp()
"""
_ELSEWHERE = """
    SELECT place FROM replicas
    WHERE id <> %s AND folder <> %s AND seen_at > clock_timestamp() - make_interval(secs => %s) LIMIT 1
"""
_OTHERS = "SELECT id, version FROM replicas WHERE id <> %s AND seen_at > clock_timestamp() - make_interval(secs => %s)"
_UNDONE = """
    SELECT tenant_id, queue FROM unfinished CROSS JOIN unnest(%s::text[]) AS queue
    WHERE NOT EXISTS (
        SELECT 1 FROM leases WHERE leases.tenant_id = unfinished.tenant_id AND leases.queue = queue.queue
        AND until > clock_timestamp()
    ) ORDER BY random() LIMIT %s
"""


class DatabaseReplicas:
    """See `app.replicas.Replicas`.

    Args:
        version: this software's.

    Raises:
        DatabaseInUse: a process has the database for itself.
        IncompatibleDatabase, DatabaseUnavailable
    """

    def __init__(self, server: PostgresServer, version: str, seconds: float = 0.0) -> None:
        self.id = uuid.uuid4().hex
        self._server = server
        self._version = version
        self._session = server.session(CHANNEL)
        self._lock = threading.Lock()
        self._until: dict[tuple[str, Queue], float] = {}  # what is held, by the monotonic clock
        self._activities: dict[tuple[str, Queue], str | None] = {}
        self._others: dict[str, str] = {}  # versions of the others that live, by id
        self._told_versions: set[str] = set()
        self._failure: str | None = None
        self._outdated: str | None = None
        self._stopping = threading.Event()
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="changes")
        self._thread: threading.Thread | None = None
        self._open(seconds)

    def join(self, folder: str, place: str) -> None:
        """Say where this process has adapters' files, by the id of that store or data folder, and for people. Called by
        one process at a time.

        Raises:
            DatabaseInUse: a process that lives has them elsewhere, and would not find those that are added here.
        """
        elsewhere = self._server.execute(_ELSEWHERE, (self.id, folder, LEASE_SECONDS))
        if elsewhere:
            raise DatabaseInUse(
                f"Another process on this database has adapters' files in {elsewhere[0]['place']}, this one in "
                f"{place}. Give all processes the same LOREBASE_ADAPTER_STORE, or none and one folder as "
                "LOREBASE_DATA, on a file system that they share."
            )
        self._server.execute(_JOIN, (self.id, self._version, folder, place))

    def start(self, changed: Callable[[Changed, str], None], waiting: Callable[[Queue, str], None]) -> None:
        """See `Replicas`."""
        self._beat(waiting)
        self._thread = threading.Thread(target=self._live, args=(changed, waiting), name="replica", daemon=True)
        self._thread.start()

    def take(self, tenant_id: str, queue: Queue) -> bool:
        """See `Replicas`."""
        if self.holds(tenant_id, queue):
            return True
        if self._stopping.is_set() or self._outdated is not None:
            return False
        asked = time.monotonic()
        taken = self._server.execute(_TAKE, (queue, self.id, LEASE_SECONDS, tenant_id))
        if not taken:
            found = self._server.execute(
                "SELECT until < clock_timestamp() AS lapsed FROM leases WHERE tenant_id = %s AND queue = %s",
                (tenant_id, queue),
            )
            if not found or not found[0]["lapsed"]:
                return False
            asked = time.monotonic()
            # The tenant's write lock: what the one before is just committing is committed, or never will be.
            with self._server.database(tenant_id).write() as connection:
                taken = connection.execute(_TAKE_OVER, (self.id, LEASE_SECONDS, tenant_id, queue)).fetchall()
        if taken:
            with self._lock:
                self._until[tenant_id, queue] = asked + LEASE_SECONDS
        return bool(taken)

    def holds(self, tenant_id: str, queue: Queue) -> bool:
        """See `Replicas`."""
        return time.monotonic() < self._until.get((tenant_id, queue), 0.0)

    def only_while_held(self, tenant_id: str, queue: Queue) -> AbstractContextManager[None]:
        """See `Replicas`."""
        from ingest.postgres import only_while

        return only_while(
            f"EXISTS (SELECT 1 FROM leases WHERE tenant_id = '{tenant_id}' AND queue = '{queue}' "  # noqa: S608 - ours
            f"AND replica = '{self.id}')"
        )

    def give_back(self, tenant_id: str, queue: Queue) -> None:
        """See `Replicas`."""
        with self._lock:
            held = self._until.pop((tenant_id, queue), None)
            self._activities.pop((tenant_id, queue), None)
        if held is None:
            return
        try:
            self._server.execute(
                "DELETE FROM leases WHERE tenant_id = %s AND queue = %s AND replica = %s", (tenant_id, queue, self.id)
            )
        except (*STORAGE_ERRORS, DatabaseClosed) as error:
            _log.warning("a lease lapses by itself: %s", error)

    def show(self, tenant_id: str, queue: Queue, activity: str | None) -> None:
        """See `Replicas`."""
        self._activities[tenant_id, queue] = activity

    def shown(self, tenant_id: str, queue: Queue) -> str | None:
        """See `Replicas`."""
        if self.holds(tenant_id, queue):
            return None
        rows = self._server.execute(
            "SELECT activity FROM leases WHERE tenant_id = %s AND queue = %s AND replica <> %s "
            "AND until > clock_timestamp()",
            (tenant_id, queue, self.id),
        )
        return rows[0]["activity"] if rows else None

    def is_live(self, replica: str) -> bool:
        """See `Replicas`."""
        rows = self._server.execute(
            "SELECT 1 FROM replicas WHERE id = %s AND seen_at > clock_timestamp() - make_interval(secs => %s)",
            (replica, LEASE_SECONDS),
        )
        return bool(rows)

    def are_others(self) -> bool:
        """See `Replicas`."""
        return bool(self._others)

    def failure(self) -> str | None:
        """See `Replicas`."""
        return self._outdated or self._failure

    def stop(self) -> None:
        """See `Replicas`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._calls.shutdown(cancel_futures=True)
        self._until.clear()
        try:
            self._server.execute("DELETE FROM leases WHERE replica = %s", (self.id,))
            self._server.execute("DELETE FROM replicas WHERE id = %s", (self.id,))
        except (*STORAGE_ERRORS, DatabaseClosed) as error:
            _log.warning("what this process had lapses by itself: %s", error)
        self._session.close()

    def _open(self, seconds: float) -> None:
        if not self._session.open(seconds):
            raise DatabaseInUse(
                "Another process has this database for itself, such as `lorebase migrate` or `lorebase reindex`. Start "
                "this one when that has ended."
            )
        try:
            self._server.check_versions()
        except BaseException:
            self._session.close()
            raise

    def _live(self, changed: Callable[[Changed, str], None], waiting: Callable[[Queue, str], None]) -> None:
        next_beat = next_look = 0.0
        while not self._stopping.is_set():
            try:
                if not self._session.is_open:
                    self._open(0.0)
                    next_look = 0.0
                if time.monotonic() >= next_look:  # what was told while nobody heard
                    next_look = time.monotonic() + _LOOK_SECONDS
                    self._call(changed, "everything", "")
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + _BEAT_SECONDS
                    self._beat(waiting)
                for told in self._session.hear(min(_HEAR_SECONDS, max(0.0, next_beat - time.monotonic()))):
                    what, _, tenant_id = told.partition(" ")
                    self._call(changed, cast("Changed", what), tenant_id)
            except IncompatibleDatabase as error:
                self._outdated = str(error)
                self._stopping.wait(_BEAT_SECONDS)
            except IngestError as error:
                self._failure = str(error)
                self._session.close()
                self._stopping.wait(_BEAT_SECONDS)

    def _beat(self, waiting: Callable[[Queue, str], None]) -> None:
        """Say that this process lives, prolong what it holds, and look for what nobody does."""
        asked, wall = time.monotonic(), time.time()
        row = self._session.execute(_SAY_ALIVE, (self.id, self._version))[0]
        took = time.monotonic() - asked
        self._failure = skewed(wall - row["now"], took)
        with self._lock:
            held = {key: self._activities.get(key) for key in self._until}
        if held:
            tenants, queues = [key[0] for key in held], [key[1] for key in held]
            kept = self._session.execute(_PROLONG, (LEASE_SECONDS, tenants, queues, list(held.values()), self.id))
            still = {(each["tenant_id"], each["queue"]) for each in kept}
            with self._lock:
                for key in held:
                    if key not in self._until:  # given back meanwhile
                        continue
                    if key in still:
                        self._until[key] = asked + LEASE_SECONDS
                    else:
                        del self._until[key]
        self._others = {
            each["id"]: each["version"] for each in self._session.execute(_OTHERS, (self.id, LEASE_SECONDS))
        }
        self._tell_of_versions()
        self._session.execute(
            "DELETE FROM replicas WHERE seen_at < clock_timestamp() - make_interval(secs => %s)", (_FORGET_SECONDS,)
        )
        for each in self._session.execute(_UNDONE, (list(QUEUES), _FOUND_AT_ONCE)):
            waiting(each["queue"], each["tenant_id"])

    def _tell_of_versions(self) -> None:
        for version in set(self._others.values()) - {self._version} - self._told_versions:
            self._told_versions.add(version)
            _log.warning("another process on this database runs version %s, this one %s", version, self._version)

    def _call(self, changed: Callable[[Changed, str], None], what: Changed, tenant_id: str) -> None:
        def call() -> None:
            try:
                changed(what, tenant_id)
            except DatabaseClosed:
                pass
            except Exception:
                _log.exception("a change could not be taken over; it is looked for again")

        self._calls.submit(call)


def skewed(ahead: float, took: float) -> str | None:
    """Why this machine's clock will not do, given how many seconds it is ahead of the database's and how long it took
    to find out; None: it will do."""
    if abs(ahead) - took <= _MOST_SKEW_SECONDS:
        return None
    return (
        f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's: set it "
        "(NTP), or keys would lapse and days end at other times than elsewhere."
    )
