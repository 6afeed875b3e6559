"""A tenant's training sets: uploaded or built, durable, never changed; a set's id is the hash of what it holds.

Knows tables and training examples; knows no HTTP and no model.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from adapters.training import TrainingExample, dump_examples, load_examples
from ingest import Connection, Database, Row

DATASET_MIGRATIONS = [
    """
    CREATE TABLE datasets (
        id TEXT PRIMARY KEY,            -- of the sha256 of the content
        name TEXT UNIQUE,
        source TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        examples INTEGER NOT NULL,
        answered INTEGER NOT NULL,
        with_passages INTEGER NOT NULL,
        documents INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        warnings TEXT NOT NULL,         -- JSON: texts for a person
        content BLOB NOT NULL,          -- JSON Lines, deflated
        created_at REAL NOT NULL
    );
    """,
    "ALTER TABLE datasets ADD COLUMN file TEXT",  # the name of the file it came in
    "ALTER TABLE datasets ADD COLUMN sources TEXT NOT NULL DEFAULT '[]'",  # JSON: [[document id, sha256, [example]]]
]
MOST_DATASETS = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_COLUMNS = (
    "id, name, source, sha256, examples, answered, with_passages, documents, bytes, warnings, created_at, sources, file"
)
Source = Literal["upload", "documents", "feedback", "judged"]


class DatasetError(Exception):
    """Root of this module's errors."""


class UnknownDataset(DatasetError):
    """The tenant has no such data set."""


class InvalidDatasetName(DatasetError):
    """A data set's name does not have the form names have."""


class DatasetExists(DatasetError):
    """Another set has this name."""


class TooManyDatasets(DatasetError):
    """The tenant holds as many sets as it may."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A document of the tenant that examples come from.

    Attributes:
        sha256: hash of its content at that time.
        examples: which ones, counted from 0.
    """

    document_id: str
    sha256: str
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A stored set.

    Attributes:
        answered: examples that have an answer.
        with_passages: examples that bring their passages.
        documents: different documents that examples name.
        bytes: size as JSON Lines.
        sources: the tenant's documents that examples come from, as far as known.
        file: the name of the file it came in.
    """

    id: str
    name: str | None
    source: Source
    sha256: str
    examples: int
    answered: int
    with_passages: int
    documents: int
    bytes: int
    warnings: list[str]
    created_at: float
    sources: tuple[DatasetSource, ...] = ()
    file: str | None = None


def check_dataset_name(name: str) -> None:
    """Refuse what cannot name a set. Raises InvalidDatasetName."""
    if not _NAME.fullmatch(name):
        raise InvalidDatasetName(
            f"{name[:80]!r} cannot name a data set: use 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or "
            "digit."
        )


class DatasetStore:
    """The training sets of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        examples: list[TrainingExample],
        name: str | None,
        source: Source,
        warnings: list[str],
        sources: Iterable[DatasetSource] = (),
        file: str | None = None,
    ) -> tuple[Dataset, bool]:
        """Store a set; the set, and whether it is new. The same content again is the set that is there.

        Raises:
            InvalidDatasetName, DatasetExists, TooManyDatasets: nothing is stored.
        """
        if name is not None:
            check_dataset_name(name)
        content = dump_examples(examples)
        sha256 = hashlib.sha256(content).hexdigest()
        dataset = Dataset(
            id=sha256[:32],
            name=name,
            source=source,
            sha256=sha256,
            examples=len(examples),
            answered=sum(bool(e.answers) for e in examples),
            with_passages=sum(bool(e.passages) for e in examples),
            documents=len({e.document for e in examples if e.document}),
            bytes=len(content),
            warnings=warnings,
            created_at=time.time(),
            sources=tuple(sources),
            file=file,
        )
        with self._database.write() as connection:
            there = _get(connection, dataset.id)
            if there is not None:
                _note_sources(connection, there, dataset.sources)
            if there is not None and name in (None, there.name):
                return _known(_get(connection, there.id)), False
            if name is not None and (other := _get(connection, name)) is not None and other.id != dataset.id:
                raise DatasetExists(f"Another data set is called {name!r}. Delete it first, or choose another name.")
            if there is not None:
                connection.execute("UPDATE datasets SET name = ? WHERE id = ?", (name, dataset.id))
                return _known(_get(connection, dataset.id)), False
            if connection.execute("SELECT count(*) FROM datasets").fetchone()[0] >= MOST_DATASETS:
                raise TooManyDatasets(f"There are {MOST_DATASETS} data sets already; delete some first.")
            connection.execute(
                f"INSERT INTO datasets ({_COLUMNS}, content) VALUES ({', '.join('?' * 14)})",  # noqa: S608
                (
                    dataset.id, name, source, sha256, dataset.examples, dataset.answered, dataset.with_passages,
                    dataset.documents, dataset.bytes, json.dumps(warnings), dataset.created_at,
                    _sources_json(dataset.sources), file, zlib.compress(content),
                ),
            )  # fmt: skip
        return dataset, True

    def note_sources(self, dataset_id: str, sources: Iterable[DatasetSource]) -> None:
        """Keep further documents that examples of a set come from. Raises UnknownDataset."""
        with self._database.write() as connection:
            _note_sources(connection, _known(_get(connection, dataset_id)), sources)

    def get(self, id_or_name: str) -> Dataset:
        """A set by its id or name. Raises UnknownDataset."""
        with self._database.read() as connection:
            return _known(_get(connection, id_or_name))

    def page(self, limit: int, offset: int) -> tuple[list[Dataset], int]:
        """A page of the sets, the newest first, and how many there are in all."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM datasets ORDER BY created_at DESC, id LIMIT ? OFFSET ?",  # noqa: S608
                (limit, offset),
            ).fetchall()
            total = connection.execute("SELECT count(*) FROM datasets").fetchone()[0]
        return [_dataset(row) for row in rows], int(total)

    def content(self, dataset_id: str) -> bytes:
        """A set as JSON Lines. Raises UnknownDataset."""
        with self._database.read() as connection:
            row = connection.execute("SELECT content FROM datasets WHERE id = ?", (dataset_id,)).fetchone()
        if row is None:
            raise UnknownDataset(_UNKNOWN)
        return zlib.decompress(row["content"])

    def examples(self, dataset_id: str) -> list[TrainingExample]:
        """The examples of a set. Raises UnknownDataset."""
        return load_examples(self.content(dataset_id))

    def delete(self, id_or_name: str) -> None:
        """Forget a set; versions trained on it keep its hash. Raises UnknownDataset."""
        with self._database.write() as connection:
            found = _known(_get(connection, id_or_name))
            connection.execute("DELETE FROM datasets WHERE id = ?", (found.id,))


_UNKNOWN = "There is no such data set."


def _get(connection: Connection, id_or_name: str) -> Dataset | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM datasets WHERE id = ? OR name = ? ORDER BY id = ? DESC",  # noqa: S608
        (id_or_name,) * 3,
    ).fetchone()
    return _dataset(row) if row else None


def _known(dataset: Dataset | None) -> Dataset:
    if dataset is None:
        raise UnknownDataset(_UNKNOWN)
    return dataset


def _dataset(row: Row) -> Dataset:
    fields: dict[str, Any] = dict(row)
    sources = tuple(DatasetSource(of, sha256, tuple(which)) for of, sha256, which in json.loads(fields["sources"]))
    return Dataset(**{**fields, "warnings": json.loads(fields["warnings"]), "sources": sources})


def _note_sources(connection: Connection, dataset: Dataset, further: Iterable[DatasetSource]) -> None:
    joined: dict[tuple[str, str], set[int]] = {}
    for each in (*dataset.sources, *further):
        joined.setdefault((each.document_id, each.sha256), set()).update(each.examples)
    sources = [DatasetSource(*of, tuple(sorted(which))) for of, which in joined.items()]
    connection.execute("UPDATE datasets SET sources = ? WHERE id = ?", (_sources_json(sources), dataset.id))


def _sources_json(sources: Iterable[DatasetSource]) -> str:
    return json.dumps([[each.document_id, each.sha256, each.examples] for each in sources])
