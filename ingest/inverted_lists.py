"""Inverted lists that name the rows likely nearest to a query without looking at all of them, and their file.

IVF (Sivic & Zisserman 2003; Jégou et al. 2011): rows lie in lists around centres found by k-means, and only the lists
nearest to a query are looked into. Vectors are kept in 8 bits a dimension; whoever asks computes the exact scores of
the candidates, so the coarse codes cost no precision. Lists rather than a graph (HNSW): texts repeat, and a graph over
many near copies of one another falls into islands that no breadth of search reaches; lists do not mind them
(`docs/vector-index.md` has the figures). Knows faiss, nodes (a row's place in the order of adding) and chunk numbers;
knows no document.

The file is derived like the lists: written beside the old one, forced to disk, renamed; read only when size and sha256
are those it says; anything else is `ListsFileUnusable`, and the lists are built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ingest.faiss_threads import one_thread

TRAINED_PER_LIST = 64
"""Vectors by which one centre is found; more make it no better."""

TUNED_COUNT = 50
"""How many nearest nodes of a query the lists are tuned to find: as many as retrieval takes from this search."""

_WANTED_SHARE = 0.985  # of the nearest vectors, in the lists that are looked into
_ITERATIONS = 10
_SPARE = 20  # candidates beyond twice those wanted, in place of dead nodes and of what the codes blur
_MAGIC = b"lorebase-lists-1\n"
_HEAD_BYTES = 1024
_READ_BYTES = 1 << 20


class ListsFileUnusable(Exception):
    """The file is absent, damaged, or of another index than the one asked for."""


def lists_for(rows: int) -> int:
    """How many lists suit so many rows: about the square root, a power of two, so that it seldom changes."""
    return 1 << max(0, round(math.log2(max(rows, 1)) / 2))


class InvertedLists:
    """Candidates by inner product. Searched from any thread, extended by one thread at a time.

    Args:
        sample: float32 ``[n, dimension]``, unit vectors like those to come; centres and the range of the codes are
            found from them. ``TRAINED_PER_LIST`` for each list are enough.
        lists: how many.
    """

    def __init__(self, sample: NDArray[np.float32], lists: int) -> None:
        faiss, dimension = _faiss(), sample.shape[1]
        self._index: Any = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimension), dimension, min(lists, len(sample)), faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )  # fmt: skip
        self._index.cp.niter = _ITERATIONS
        self._index.cp.spherical = True
        self._index.cp.min_points_per_centroid = 1  # faiss would warn of small samples on the terminal
        self._index.train(np.ascontiguousarray(sample, dtype=np.float32))
        self._using = threading.Lock()  # faiss moves memory while it adds
        self.numbers: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    @property
    def probes(self) -> int:
        """How many of the lists a search looks into."""
        return int(self._index.nprobe)

    @property
    def bytes(self) -> int:
        """About how much memory the lists hold."""
        return len(self.numbers) * (int(self._index.d) + 16) + self.lists * int(self._index.d) * 4

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add nodes; searches wait meanwhile, so a portion is best small once the lists are searched.

        Args:
            numbers: int64 ``[n]``, the chunk of each node.
            vectors: float32 ``[n, dimension]``.
        """
        if not len(numbers):
            return
        with self._using:
            self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
            self.numbers = np.concatenate([self.numbers, numbers])

    def tune(self, queries: NDArray[np.float32], nearest: NDArray[np.float32], of: NDArray[np.int64]) -> None:
        """Look into as many lists as hold nearly all of the vectors nearest to queries.

        Args:
            queries: float32 ``[q, dimension]``.
            nearest: float32 ``[n, dimension]``, the vectors truly nearest to them; at least one.
            of: int64 ``[n]``, which query each is nearest to.
        """
        order = self._index.quantizer.search(queries, self.lists)[1]  # [q, lists], the nearest list first
        places = np.argsort(order, axis=1)  # [q, lists], where each list stands in that order
        holding = self._index.quantizer.search(np.ascontiguousarray(nearest), 1)[1][:, 0]  # [n]
        self._index.nprobe = 1 + int(np.quantile(places[of, holding], _WANTED_SHARE, method="higher"))

    def candidates(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Nodes among which the ``count`` nearest to ``query`` are likely: int64 ``[n]``, more than ``count`` if there
        are more.

        Args:
            query: float32 ``[dimension]``.
        """
        probes = min(self.lists, math.ceil(self.probes * max(1.0, count / TUNED_COUNT)))
        parameters = _faiss().SearchParametersIVF(nprobe=probes)
        with self._using, one_thread():
            _, nodes = self._index.search(query.reshape(1, -1), 2 * count + _SPARE, params=parameters)  # [1, wanted]
        found: NDArray[np.int64] = nodes[0][nodes[0] >= 0]
        return found

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Replace the file by these lists, all or nothing. Not while nodes are added.

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
            raise ValueError("the facts about the lists are too long for its file's head")
        file.seek(0)
        file.write(encoded.ljust(_HEAD_BYTES))

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> InvertedLists:
        """The lists in a file.

        Raises:
            ListsFileUnusable: the file is absent, damaged, or was saved with other facts.
        """
        try:
            with path.open("rb") as file:
                nodes = _checked(file, path.stat().st_size, facts)
                lists = cls.__new__(cls)
                lists._using = threading.Lock()
                lists.numbers = np.frombuffer(file.read(nodes * 8), dtype="<i8").astype(np.int64)
                lists._index = _faiss().read_index(_faiss().PyCallbackIOReader(file.read, _READ_BYTES))
        except (OSError, RuntimeError) as error:
            raise ListsFileUnusable(f"{path.name}: {error}") from error
        if not isinstance(lists._index, _faiss().IndexIVFScalarQuantizer) or lists._index.ntotal != nodes:
            raise ListsFileUnusable(f"{path.name} holds another kind of index, or another number of nodes")
        return lists


def _faiss() -> Any:
    """Loaded when first needed; its type stubs lack half of it."""
    import faiss

    return faiss


def _checked(file: BinaryIO, size: int, facts: Mapping[str, Any]) -> int:
    """How many nodes the file holds, once it is known to be whole; the file then stands behind its head."""
    head = file.read(_HEAD_BYTES)
    if not head.startswith(_MAGIC):
        raise ListsFileUnusable("the file holds no saved lists")
    try:
        said = json.loads(head[len(_MAGIC) :])
        nodes, same = int(said["nodes"]), said["facts"] == dict(facts)
        whole = said["bytes"] == size and 0 <= nodes * 8 <= size - _HEAD_BYTES
    except (ValueError, KeyError, TypeError) as error:
        raise ListsFileUnusable("the file's head is damaged") from error
    if not same:
        raise ListsFileUnusable("the file is of other vectors")
    if not whole:
        raise ListsFileUnusable("the file is not as long as it says")
    digest = hashlib.sha256()
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
    if digest.hexdigest() != said["sha256"]:
        raise ListsFileUnusable("the file's contents are damaged")
    file.seek(_HEAD_BYTES)
    return nodes
