"""The vector index of one tenant through its life: loaded, kept current, given inverted lists, saved, released.

Knows the database, the index in memory and the lists' file, and when each follows the other. Knows no document's text.

    SQLite rows ──load──► exact index ──past exact_up_to, in the background──► exact index + lists ──► their file
         ▲                     │ answers all the while                              │ extended as rows come,
         └── the truth         └─ release: freed, loaded again when searched        └ rebuilt as rows go
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest import index_changes
from ingest import vector_store as store
from ingest.database import STORAGE_ERRORS, Connection, Database
from ingest.embedding import Embedder, embedded_text
from ingest.errors import DamagedData, DatabaseClosed, IndexMismatch
from ingest.inverted_lists import InvertedLists, ListsFileUnusable, lists_for
from ingest.list_building import build_lists
from ingest.vector_index import Snapshot, VectorIndex

T = TypeVar("T")
_log = logging.getLogger("lorebase.index")
MISMATCH = (
    "the documents were embedded with another model than the one that is set now: set the former model again, or "
    "stop the service and run `lorebase reindex`, which embeds them anew"
)
EXACT_UP_TO = 20_000
_SPARE = 0.05
_EXTENDED_AT_ONCE = 256  # nodes, for as long as a search may wait
_UNCOVERED_SHARE = 0.02  # of the rows, searched exactly beside the lists, from which they are extended
_FEWEST_UNCOVERED = 1000
_DEAD_NODES_SHARE = 0.3  # of the lists, from which they are built anew
_BACK_TO_EXACT_SHARE = 0.8  # of exact_up_to, below which the lists are dropped
_MENDINGS = 3  # readings of the vectors, before the disk is given up
_SAVED_GROWTH = 0.1  # of the nodes saved, from which the lists are saved again


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a tenant's index lives.

    Attributes:
        exact_up_to: chunks up to which every search looks at every vector; inverted lists answer beyond, or a graph.
        background: builds these; ``None`` keeps every search exact.
        folder: where lists are saved; ``None`` saves none.
        on_resize: told whenever the memory held has changed much; called without any lock.
        in_database: whether the database searches the vectors (`ingest.dense_search`), and none lie in memory.
    """

    exact_up_to: int = EXACT_UP_TO
    background: Executor | None = None
    folder: Path | None = None
    on_resize: Callable[[], None] = lambda: None
    in_database: bool = False


class LiveIndex:
    """The index of a corpus. Safe to use from any thread.

    Args:
        database: holds the vectors.
        embedder: the one that makes queries' vectors; vectors of another are refused.
    """

    def __init__(self, database: Database, embedder: Embedder, options: IndexOptions) -> None:
        self._database = database
        self._embedder = embedder
        self._options = options
        self._lock = threading.Lock()  # loading, publishing, releasing; never held while waiting for the writer
        self._index: VectorIndex | None = None
        self._switches = 0  # odd while content is replaced
        self._followed = 0  # how far the log of changes, which other processes write too, is in the index
        self._scheduling = threading.Lock()
        self._tending = False
        self._work: Future[None] | None = None
        self._saved_nodes = 0
        self._closed = False

    @property
    def bytes(self) -> int:
        """About how much memory it holds; 0 while it is not loaded."""
        index = self._index
        return index.bytes if index is not None else 0

    def search(
        self, vector: NDArray[np.float32], count: int, documents: Iterable[str] | None = None
    ) -> tuple[list[int], list[float]]:
        """As ``VectorIndex.search``; loads the index first when it is not.

        Raises:
            IndexMismatch: the stored vectors were made by another embedder.
            EmbedderUnavailable: the embedding model cannot be loaded.
        """
        index = self._index or self._loaded()
        return index.search(vector, count, documents)

    def searched(
        self,
        vector: NDArray[np.float32],
        count: int,
        documents: Iterable[str] | None,
        read: Callable[[Connection, tuple[list[int], list[float]]], T],
    ) -> T:
        """See `ingest.dense_search.DenseSearch`: searched first, then read, and done again where what is read is newer,
        or was replaced in between: what was found may then be neither the old nor the new."""
        among = None if documents is None else list(documents)
        has_followed = False
        while True:
            switches, followed = self.switches(), self._followed
            found = self.search(vector, count, among)
            with self._database.read() as connection:
                changed = index_changes.latest(connection)
                # Once it has followed, only what was replaced meanwhile counts: others may add without end.
                newest = changed.replacement if has_followed else changed.change
                if newest <= followed:
                    result = read(connection, found)
            if newest > followed:
                self.follow(changed.change)
                has_followed = True
            elif switches == self.switches():
                return result

    def publish(
        self, document_id: str, numbers: NDArray[np.int64], vectors: NDArray[np.float32], present: Callable[[], bool]
    ) -> None:
        """Add a committed document, unless the index is not loaded or the document is gone again.

        Args:
            present: whether it still is there; asked where no deletion can come between.
        """
        with self._lock:
            index = self._index
            if index is None or not present():
                return
            before = index.bytes
            index.add(document_id, numbers, vectors)
        self._attend(index)
        if index.bytes != before:
            self._options.on_resize()

    def switches(self) -> int:
        """A number that is another one whenever content was replaced; waits while that is under way."""
        if self._switches % 2:
            with self._lock:
                pass
        return self._switches

    @contextmanager
    def switching(self) -> Iterator[Callable[[str, NDArray[np.int64], NDArray[np.float32]], None]]:
        """From just before replaced content is committed until its vectors are in the index.

        Yields:
            what puts a document's new chunks, as in ``publish``, in the place of its old ones.
        """
        with self._lock:
            self._switches += 1
            index = self._index

            def switch(document_id: str, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
                if index is not None:
                    index.remove(document_id)
                    index.add(document_id, numbers, vectors)

            try:
                yield switch
            finally:
                self._switches += 1
        if index is not None:
            self._attend(index)

    def remove(self, document_id: str) -> None:
        """Take out a document whose rows are deleted."""
        with self._lock:
            index = self._index
            if index is not None:
                index.remove(document_id)
        if index is not None:
            self._attend(index)

    def follow(self, latest: int) -> None:
        """Take over what other processes have changed up to a number of the log. An index that is not loaded will be
        as new as that.

        Raises:
            DatabaseClosed, DatabaseUnavailable
        """
        if self._index is None or latest <= self._followed:
            return
        with self._lock:
            index = self._index
            if index is None or latest <= self._followed:
                return
            before = index.bytes
            with self._database.read() as connection:
                reached = index_changes.latest(connection).change
                if not self._taken_over(connection, index):
                    self._index = None  # the next search reads all vectors
                    return
            self._followed = reached
        self._attend(index)
        if index.bytes != before:
            self._options.on_resize()

    def _taken_over(self, connection: Connection, index: VectorIndex) -> bool:
        """Bring what was changed into the index; false when that is not known, or a vector is damaged."""
        changed = index_changes.documents_since(connection, self._followed)
        if changed is None:
            return False
        stored = index_changes.numbers_of(connection, changed)
        for document_id in changed:
            span = stored.get(document_id)
            if span == index.numbers_of(document_id):  # this process did it
                continue
            vectors = None if span is None else index_changes.vectors_between(connection, *span, self._dimension)
            if span is not None and vectors is None:
                return False
            index.remove(document_id)
            if vectors is not None:
                index.add(document_id, *vectors)
        return True

    @property
    def _dimension(self) -> int:
        return self._embedder.dimension

    def release(self) -> None:
        """Free the memory; the next search loads the index again."""
        with self._lock:
            self._index = None

    def close(self) -> None:
        """Save what is worth it and stop; waits for work in the background. The database is still open."""
        with self._scheduling:
            self._closed = True
            work = self._work
        if work is not None and not work.cancel():
            work.result()
        index = self._index
        if index is not None:
            self._save(index.snapshot().lists, growth=0)
        self.release()

    def wait(self) -> None:
        """Wait until no work is under way in the background."""
        while (work := self._work) is not None and not work.done():
            work.result()

    def _loaded(self) -> VectorIndex:
        for _ in range(_MENDINGS):
            with self._lock:
                if self._index is not None:
                    return self._index
                with self._database.read() as connection:
                    stored = store.embedder_of_vectors(connection)
                    if stored is not None and stored != self._embedder.fingerprint:
                        raise IndexMismatch(MISMATCH)
                    found = store.all_vectors(connection, self._dimension, _SPARE)
                    followed = index_changes.latest(connection).change
                if not found.damaged:
                    self._followed = followed
                    index = self._index = VectorIndex(self._dimension, found)
                    break
            self._mend(found.damaged)
        else:
            raise DamagedData(
                "stored vectors are damaged again as soon as they are mended: the disk is not to be trusted"
            )
        self._attend(index)
        self._options.on_resize()
        return index

    def _mend(self, numbers: list[int]) -> None:
        """Embed the chunks again whose vectors are damaged. Raises DamagedData when their text is too."""
        _log.warning("%d stored vectors are damaged and made again from their text", len(numbers))
        with self._database.read() as connection:
            inputs = store.damaged_inputs(connection, numbers)
        vectors = self._embedder.encode([embedded_text(title, text) for _, title, text in inputs])  # [n, d]
        with self._database.write() as connection:
            for (number, _, _), vector in zip(inputs, vectors, strict=True):
                store.mend_vector(connection, number, vector)

    def _attend(self, index: VectorIndex) -> None:
        """Have the lists built, extended, rebuilt or dropped, where that is due and not under way."""
        if self._options.background is None or not self._due(index.snapshot()):
            return
        with self._scheduling:
            if not self._closed and not self._tending:
                self._tending = True
                self._work = self._options.background.submit(self._tend, index)

    def _due(self, rows: Snapshot) -> bool:
        if rows.lists is None:
            return rows.alive > self._options.exact_up_to
        return self._outgrown(rows) or _worn(rows) or _uncovered(rows)

    def _outgrown(self, rows: Snapshot) -> bool:
        return rows.alive < _BACK_TO_EXACT_SHARE * self._options.exact_up_to

    def _tend(self, index: VectorIndex) -> None:
        """Do what is due, until nothing is; runs in the background."""
        try:
            while True:
                self._tend_once(index)
                with self._scheduling:  # what changes from here on is attended to by whoever changes it
                    now = self._index
                    if self._closed or now is None or not self._due(now.snapshot()):
                        self._tending = False
                        break
                index = now
        except DatabaseClosed:
            self._tending = False
            return
        except Exception:  # searches go on exactly; the next change tries again
            self._tending = False
            _log.exception("inverted lists cannot be made")
        self._options.on_resize()

    def _tend_once(self, index: VectorIndex) -> None:
        rows = index.begin_lists()
        try:
            if rows.lists is None:
                if not self._load_lists(index, rows):
                    self._build(index, rows)
            elif self._outgrown(rows):
                index.attach_lists(None, np.zeros(0, dtype=np.int64), 0)
            elif _worn(rows):
                self._build(index, rows)
            if (rows := index.snapshot()).lists is not None:
                self._extend(index, rows, rows.lists)
        finally:
            index.end_lists()
        if self._wanted(index):
            self._save(index.snapshot().lists, growth=_SAVED_GROWTH)

    def _wanted(self, index: VectorIndex) -> bool:
        return self._index is index and not self._closed

    def _build(self, index: VectorIndex, rows: Snapshot) -> None:
        """Make lists of all rows, then search through them."""
        built = build_lists(rows, lambda: self._wanted(index))
        if built is not None:
            index.attach_lists(*built, rows.count)
            self._saved_nodes = 0

    def _extend(self, index: VectorIndex, rows: Snapshot, lists: InvertedLists) -> None:
        """Add the rows that are not covered, a few at a time, since searches wait meanwhile."""
        nodes = [rows.node_rows]
        covered = rows.covered
        while covered < rows.count and self._wanted(index):
            end = min(covered + _EXTENDED_AT_ONCE, rows.count)
            live, vectors = rows.live(np.arange(covered, end))
            lists.add(rows.numbers[live], vectors)
            nodes.append(live)
            covered = end
        index.attach_lists(lists, np.concatenate(nodes), covered)

    def _load_lists(self, index: VectorIndex, rows: Snapshot) -> bool:
        """Search through the saved lists, if they are of these rows; rows that came since are left uncovered."""
        if self._options.folder is None:
            return False
        with self._database.read() as connection:
            generation = store.lists_generation(connection)
        if generation is None:
            return False
        try:
            lists = InvertedLists.load(self._file(generation), self._facts(generation))
        except ListsFileUnusable as error:
            _log.warning("the saved lists are not used and are built anew: %s", error)
            return False
        numbers = rows.numbers[: rows.count]
        order = np.argsort(numbers, kind="stable")
        places = np.searchsorted(numbers[order], lists.numbers).clip(max=rows.count - 1)  # [nodes]
        nodes = np.where(numbers[order][places] == lists.numbers, order[places], -1)
        known = np.zeros(rows.count, dtype=bool)
        known[nodes[nodes >= 0]] = True
        covered = rows.count if known.all() else int(np.argmin(known))
        if known[covered:].any():  # a row in between is in no node
            return False
        index.attach_lists(lists, nodes, covered)
        self._saved_nodes = len(lists.numbers)
        return True

    def _save(self, lists: InvertedLists | None, growth: float) -> None:
        """Save the lists if they have grown by that share since they were saved; not while they are extended."""
        folder = self._options.folder
        if folder is None or lists is None or len(lists.numbers) <= self._saved_nodes * (1 + growth):
            return
        generation = uuid.uuid4().hex
        file = self._file(generation)
        try:
            lists.save(file, self._facts(generation))
            with self._database.write() as connection:
                store.note_lists(connection, generation)
            self._saved_nodes = len(lists.numbers)
            for other in folder.iterdir():
                if other != file:
                    other.unlink(missing_ok=True)
        except STORAGE_ERRORS as error:
            _log.warning("inverted lists cannot be saved; after a restart they are built anew: %s", error)

    def _file(self, generation: str) -> Path:
        assert self._options.folder is not None  # noqa: S101
        return self._options.folder / f"{generation}.lists"

    def _facts(self, generation: str) -> dict[str, str | int]:
        """What saved lists must be of."""
        return {
            "generation": generation, "embedder": self._embedder.fingerprint, "dimension": self._embedder.dimension
        }  # fmt: skip


def _worn(rows: Snapshot) -> bool:
    """Whether too many of the lists' nodes are of deleted rows, or there are too few lists for the rows by now."""
    nodes = len(rows.node_rows)
    dead = nodes - (rows.alive - (rows.count - rows.covered))
    too_few = rows.lists is not None and lists_for(rows.alive) > rows.lists.lists
    return too_few or dead > _DEAD_NODES_SHARE * nodes


def _uncovered(rows: Snapshot) -> bool:
    """Whether many rows came since the lists were built."""
    return rows.count - rows.covered > max(_FEWEST_UNCOVERED, _UNCOVERED_SHARE * rows.count)
