"""A graph that names the rows likely nearest to a query without looking at all of them, and its file.

HNSW (Malkov & Yashunin, arXiv 1603.09320) over vectors in 8 bits a dimension; whoever asks computes the exact scores of
the candidates, so the coarse codes cost no precision. Measured against a graph over float32 vectors: a quarter of the
memory beside the vectors themselves, the same recall. Knows faiss, nodes and chunk numbers; knows no document.

The file is derived like the graph: written beside the old one, forced to disk, renamed; read only when size and sha256
are those it says; anything else is `GraphFileUnusable`, and the graph is built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_LINKS = 16
_BREADTH_BUILDING = 100
_BREADTH_SEARCHING = 128
_SPARE = 20  # candidates beyond twice those wanted, in place of dead nodes and of what the codes blur
_BYTES_PER_NODE = 2 * _LINKS * 4 + 40  # links of the lowest layer; the upper ones, level, offset and number
_MAGIC = b"lorebase-hnsw-1\n"
_HEAD_BYTES = 1024
_READ_BYTES = 1 << 20


class GraphFileUnusable(Exception):
    """The file is absent, damaged, or of another index than the one asked for."""


class HnswGraph:
    """Candidates by inner product. Searched from any thread, extended by one thread at a time.

    Args:
        sample: float32 ``[n, dimension]``, vectors like those to come; the range of the 8-bit codes is taken from them.
    """

    def __init__(self, sample: NDArray[np.float32]) -> None:
        dimension = sample.shape[1]
        self._index: Any = _faiss().IndexHNSWSQ(
            dimension, _faiss().ScalarQuantizer.QT_8bit, _LINKS, _faiss().METRIC_INNER_PRODUCT
        )
        self._index.hnsw.efConstruction = _BREADTH_BUILDING
        self._index.train(sample)
        self._using = threading.Lock()  # faiss moves memory while it adds
        self.numbers: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @property
    def bytes(self) -> int:
        """About how much memory the graph holds."""
        return len(self.numbers) * (int(self._index.d) + _BYTES_PER_NODE)

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add nodes; searches wait meanwhile, so a portion is best a few dozen once the graph is searched.

        Args:
            numbers: int64 ``[n]``, the chunk of each node.
            vectors: float32 ``[n, dimension]``.
        """
        if not len(numbers):
            return
        with self._using:
            self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
            self.numbers = np.concatenate([self.numbers, numbers])

    def candidates(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Nodes among which the ``count`` nearest to ``query`` are likely: int64 ``[n]``, more than ``count``.

        Args:
            query: float32 ``[dimension]``.
        """
        wanted = 2 * count + _SPARE
        parameters = _faiss().SearchParametersHNSW(efSearch=max(_BREADTH_SEARCHING, 2 * wanted))
        with self._using:
            _, nodes = self._index.search(query.reshape(1, -1), wanted, params=parameters)  # [1, wanted]
        found: NDArray[np.int64] = nodes[0][nodes[0] >= 0]
        return found

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Replace the file by this graph, all or nothing. Not while nodes are added.

        Args:
            facts: what the file must be of to be read again, as JSON.

        Raises:
            OSError: it cannot be written; the former file stays.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        try:
            with temporary.open("wb") as file:
                self._write(file, facts)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self, file: BinaryIO, facts: Mapping[str, Any]) -> None:
        digest = hashlib.sha256()

        def write(piece: bytes) -> int:
            digest.update(piece)
            return file.write(piece)

        file.write(bytes(_HEAD_BYTES))
        write(self.numbers.astype("<i8").tobytes())
        _faiss().write_index(self._index, _faiss().PyCallbackIOWriter(write, _READ_BYTES))
        head = {
            "facts": dict(facts),
            "nodes": len(self.numbers),
            "bytes": file.tell(),
            "sha256": digest.hexdigest(),
        }
        encoded = _MAGIC + json.dumps(head).encode()
        if len(encoded) > _HEAD_BYTES:
            raise ValueError("the facts about a graph are too long for its file's head")
        file.seek(0)
        file.write(encoded.ljust(_HEAD_BYTES))

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> HnswGraph:
        """The graph in a file.

        Raises:
            GraphFileUnusable: the file is absent, damaged, or was saved with other facts.
        """
        try:
            with path.open("rb") as file:
                nodes = _checked(file, path.stat().st_size, facts)
                graph = cls.__new__(cls)
                graph._using = threading.Lock()
                graph.numbers = np.frombuffer(file.read(nodes * 8), dtype="<i8").astype(np.int64)
                graph._index = _faiss().read_index(_faiss().PyCallbackIOReader(file.read, _READ_BYTES))
        except (OSError, RuntimeError) as error:
            raise GraphFileUnusable(f"{path.name}: {error}") from error
        if not isinstance(graph._index, _faiss().IndexHNSWSQ) or graph._index.ntotal != nodes:
            raise GraphFileUnusable(f"{path.name} holds another kind of index, or another number of nodes")
        return graph


def _faiss() -> Any:
    """Loaded when first needed; its type stubs lack half of it."""
    import faiss

    return faiss


def _checked(file: BinaryIO, size: int, facts: Mapping[str, Any]) -> int:
    """How many nodes the file holds, once it is known to be whole; the file then stands behind its head."""
    head = file.read(_HEAD_BYTES)
    if not head.startswith(_MAGIC):
        raise GraphFileUnusable("the file is no saved graph")
    try:
        said = json.loads(head[len(_MAGIC) :])
        nodes, same = int(said["nodes"]), said["facts"] == dict(facts)
        whole = said["bytes"] == size and 0 <= nodes * 8 <= size - _HEAD_BYTES
    except (ValueError, KeyError, TypeError) as error:
        raise GraphFileUnusable("the file's head is damaged") from error
    if not same:
        raise GraphFileUnusable("the file is of other vectors")
    if not whole:
        raise GraphFileUnusable("the file is not as long as it says")
    digest = hashlib.sha256()
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
    if digest.hexdigest() != said["sha256"]:
        raise GraphFileUnusable("the file's contents are damaged")
    file.seek(_HEAD_BYTES)
    return nodes
