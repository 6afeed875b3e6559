"""Search as a tenant grows and as tenants become many: `make bench NAME=search_scale`.

One tenant of 1,000 to 1,000,000 chunks: opening its index from SQLite, the median and 95th percentile of a search, its
memory, and where inverted lists answer, the same of an exact search and recall@10 against it. Then many tenants of
1,000 chunks: a search in one tenant's own index beside the same search in one index of all, restricted by a bitmap of
ids, turn by turn; searches a second are the inverse of the median time of one.

The vectors are embeddings of real texts; beyond those there are, copies with a little noise stand in for more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.database_search import Measured, measure_graph_in_database, postgresql
from benchmarks.measure import DATA, interleaved, report, timed
from ingest import DOCUMENT_MIGRATIONS, Database, IndexOptions, SqliteDatabase, make_embedder
from ingest.live_index import EXACT_UP_TO, LiveIndex
from ingest.vector_index import VectorIndex
from ingest.vector_store import StoredVectors

Vectors = NDArray[np.float32]
BOUND = 10
_CHUNKS_OF_A_TENANT = 1000
_CHUNKS_OF_A_DOCUMENT = 10
_QUERIES = 200
_NOISE = 0.15  # length of the noise against a vector's
_WRITTEN_AT_ONCE = 10_000
_EMBEDDED_AT_ONCE = 1000
_SIZES = {True: (1000, 10_000), False: (1000, 10_000, 100_000, 1_000_000)}  # quick
_TENANTS = {True: (1, 50), False: (1, 100, 1000)}


def real_vectors(data: Path, count: int, cache: Path | None) -> Vectors:
    """Embeddings of ``count`` sentences of question sets: float32 ``[count, dimension]``, kept in ``cache``.

    Args:
        data: a SQuAD-format file, or a folder of such.
    """
    contents = [file.read_bytes() for file in (sorted(data.glob("*.json")) if data.is_dir() else [data])]
    embedder = make_embedder()
    name = hashlib.sha256(b"".join(contents) + f"{count} {embedder.fingerprint}".encode()).hexdigest()[:16] + ".npy"
    if cache is not None and (cache / name).is_file():
        kept: Vectors = np.load(cache / name)
        return kept
    paragraphs = (p for content in contents for article in json.loads(content)["data"] for p in article["paragraphs"])
    texts = (text for p in paragraphs for text in re.split(r"(?<=[.!?])\s+", p["context"]))
    sentences = list(dict.fromkeys(text for text in texts if 30 < len(text) < 300))
    chosen = [str(text) for text in np.random.default_rng(0).permutation(sentences)[:count]]
    pieces = []
    for start in range(0, len(chosen), _EMBEDDED_AT_ONCE):
        pieces.append(embedder.encode(chosen[start : start + _EMBEDDED_AT_ONCE]))
        print(f"\rembedded {start + len(pieces[-1])} of {len(chosen)} sentences", end="", flush=True)
    print()
    vectors = np.concatenate(pieces)
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cache / name, vectors)
    return vectors


def scaled(real: Vectors, start: int, stop: int) -> Vectors:
    """Vectors ``start:stop`` of an endless series: the real ones, then copies of them with noise."""
    rows = np.arange(start, stop)
    vectors = real[rows % len(real)]
    copies = np.flatnonzero(rows >= len(real))
    noise = np.random.default_rng(start).normal(size=(len(copies), real.shape[1])).astype(np.float32)
    vectors[copies] += noise * (_NOISE / np.sqrt(real.shape[1]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def write_tenant(database: Database, real: Vectors, chunks: int) -> None:
    """Documents, chunks and vectors as ingestion leaves them."""
    with database.write() as connection:
        connection.executemany(
            "INSERT INTO documents (id, collection, name, is_text, metadata, sha256, bytes, status, created_at, "
            "updated_at) VALUES (?, 'default', 'd', 1, '{}', ?, 1, 'ready', '', '')",
            ((f"{n:032x}", f"{n:x}") for n in range(-(-chunks // _CHUNKS_OF_A_DOCUMENT))),
        )
        connection.executemany(
            'INSERT INTO chunks (number, document_id, position, start, "end", text) VALUES (?, ?, ?, 0, 1, ?)',
            ((n + 1, f"{n // _CHUNKS_OF_A_DOCUMENT:032x}", n % _CHUNKS_OF_A_DOCUMENT, "x") for n in range(chunks)),
        )
        connection.execute("INSERT INTO index_facts (name, value) VALUES ('embedder', 'measured')")
    for start in range(0, chunks, _WRITTEN_AT_ONCE):
        vectors = scaled(real, start, min(start + _WRITTEN_AT_ONCE, chunks))
        with database.write() as connection:
            connection.executemany(
                "INSERT INTO vectors (chunk, vector) VALUES (?, ?)",
                ((start + n + 1, vector.tobytes()) for n, vector in enumerate(vectors)),
            )


def measure_size(real: Vectors, queries: Vectors, chunks: int, exact_up_to: int) -> dict[str, float]:
    """One tenant of so many chunks."""
    with tempfile.TemporaryDirectory(prefix="lorebase-") as folder, ThreadPoolExecutor(1) as background:
        database = SqliteDatabase(Path(folder) / "lorebase.db", {"documents": DOCUMENT_MIGRATIONS})
        write_tenant(database, real, chunks)
        embedder = Measured(real.shape[1])
        exact = LiveIndex(database, embedder, IndexOptions(exact_up_to=chunks))
        seconds = timed(lambda: exact.search(queries[0], 1))
        plain = timed(lambda: sum(len(piece) for piece in _pieces(database.path)))
        figures = {"open_s": seconds, "open_mb_s": chunks * real.shape[1] * 4 / 1e6 / seconds, "file_read_s": plain}
        held = exact
        if chunks > exact_up_to:
            truth = [exact.search(query, 10)[0] for query in queries]
            figures["exact_p50_ms"] = 1000 * float(np.median([timed(partial(exact.search, q, 10)) for q in queries]))
            exact.release()
            held = LiveIndex(database, embedder, IndexOptions(exact_up_to=exact_up_to, background=background))
            held.search(queries[0], 1)
            figures["build_s"] = timed(held.wait)
            found = [held.search(query, 10)[0] for query in queries]
            figures["recall"] = sum(len(set(a) & set(b)) for a, b in zip(truth, found, strict=True)) / 10 / len(queries)
        times = [timed(partial(held.search, q, 10)) for q in queries]
        figures |= {
            "min_ms": 1000 * min(times),
            "p50_ms": 1000 * float(np.median(times)),
            "p95_ms": 1000 * float(np.quantile(times, 0.95)),
            "mb": held.bytes / 1e6,
        }
        held.close()
        database.close()
        return {name: round(value, 3) for name, value in figures.items()}


def measure_graph(real: Vectors, queries: Vectors, chunks: int) -> dict[str, float]:
    """An HNSW graph over the same vectors, in codes of 8 bits too, its candidates scored exactly: 16 links, 100 wide
    when built, 128 when searched."""
    import faiss as typed

    faiss: Any = typed  # its type stubs lack half of it
    dimension = real.shape[1]
    starts = range(0, chunks, _WRITTEN_AT_ONCE)
    vectors = np.concatenate([scaled(real, start, min(start + _WRITTEN_AT_ONCE, chunks)) for start in starts])
    graph = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 100
    graph.train(vectors[:: max(1, chunks // 20_000)])
    seconds = timed(lambda: graph.add(vectors))
    parameters = faiss.SearchParametersHNSW(efSearch=128)

    def search(query: Vectors) -> NDArray[np.int64]:
        nodes = graph.search(query.reshape(1, -1), 40, params=parameters)[1][0]
        nodes = nodes[nodes >= 0]
        nearest: NDArray[np.int64] = nodes[np.argsort(-(vectors[nodes] @ query))[:10]]
        return nearest

    truth = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    found = [search(query) for query in queries]
    recall = float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))
    times = [timed(partial(search, query)) for query in queries]
    return {"graph_build_s": round(seconds, 3), "graph_recall": round(recall, 4),
            "graph_p50_ms": round(1000 * float(np.median(times)), 3)}  # fmt: skip


def in_database(real: Vectors, queries: Vectors, chunks: int) -> dict[str, float]:
    """The same vectors in PostgreSQL, searched by pgvector."""
    starts = range(0, chunks, _WRITTEN_AT_ONCE)
    pieces = (scaled(real, start, min(start + _WRITTEN_AT_ONCE, chunks)) for start in starts)
    with postgresql() as url:
        figures = measure_graph_in_database(url, pieces, queries)
    return {f"database_{name}": value for name, value in figures.items()}


def _pieces(path: Path) -> Sequence[bytes]:
    with path.open("rb") as file:
        return list(iter(lambda: file.read(1 << 20), b""))


def measure_tenants(real: Vectors, queries: Vectors, tenants: int, turns: int) -> dict[str, float]:
    """So many tenants of 1,000 chunks: each its own index, against one of all with a bitmap of ids."""
    each = _CHUNKS_OF_A_TENANT
    every = np.empty((tenants * each, real.shape[1]), dtype=np.float32)  # both ways read the same memory
    for start in range(0, len(every), _WRITTEN_AT_ONCE):
        every[start : start + _WRITTEN_AT_ONCE] = scaled(real, start, min(start + _WRITTEN_AT_ONCE, len(every)))
    numbers = np.arange(each, dtype=np.int64)
    indexes = [
        VectorIndex(real.shape[1], StoredVectors(numbers, every[t * each : (t + 1) * each], {"d": range(each)}))
        for t in range(tenants)
    ]
    bits = []
    for tenant in range(tenants):
        mask = np.zeros(len(every), dtype=bool)
        mask[tenant * each : (tenant + 1) * each] = True
        bits.append(np.packbits(mask, bitorder="little"))
    rng = np.random.default_rng(1)

    def own() -> float:
        asked = zip(rng.integers(tenants, size=len(queries)).tolist(), queries, strict=True)
        return 1 / float(np.median([timed(partial(indexes[t].search, q, 10)) for t, q in asked]))

    def shared() -> float:
        asked = zip(rng.integers(tenants, size=20).tolist(), queries, strict=False)
        return 1 / float(np.median([timed(partial(filtered, every, q, bits[t])) for t, q in asked]))

    figures = interleaved({"tenant_qps": own, "filter_qps": shared}, turns)
    tenant_qps, filter_qps = (float(np.median(values)) for values in figures.values())
    return {"tenants": tenants, "tenant_qps": round(tenant_qps), "filter_qps": round(filter_qps),
            "tenant_vs_filter_qps": round(tenant_qps / filter_qps, 1),
            "mb_per_tenant": round(indexes[0].bytes / 1e6, 2)}  # fmt: skip


def filtered(vectors: Vectors, query: Vectors, bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The ten nearest of the rows whose bit is set, by faiss: int64 ``[1, 10]``."""
    import faiss

    knn: Any = faiss.knn_inner_product
    bitmap: Any = faiss.IDSelectorBitmap
    scores, rows = np.empty((1, 10), dtype=np.float32), np.empty((1, 10), dtype=np.int64)
    x, y, d, i = (faiss.swig_ptr(array) for array in (query, vectors, scores, rows))
    knn(x, y, vectors.shape[1], 1, len(vectors), 10, d, i, bitmap(bits))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="a SQuAD-format file, or a folder of such")
    parser.add_argument("--vectors", type=Path, help="a .npy file of unit vectors, float32 [n, d], instead of --data")
    parser.add_argument("--cache", type=Path, help="folder in which embeddings are kept between runs")
    parser.add_argument("--texts", type=int, help="how many texts are embedded (default: 20000; quick: 2200)")
    parser.add_argument(
        "--sizes", type=int, nargs="*", help="chunks in one tenant (default: 1000 10000 100000 1000000)"
    )
    parser.add_argument("--tenants", type=int, nargs="*", help="how many tenants (default: 1 100 1000)")
    parser.add_argument("--exact-up-to", type=int, default=EXACT_UP_TO, help="chunks searched exactly")
    parser.add_argument("--graph", action="store_true", help="an HNSW graph over the same vectors too")
    parser.add_argument("--database", action="store_true", help="the same in PostgreSQL, by pgvector")
    parser.add_argument("--quick", action="store_true", help="up to 10,000 chunks and 50 tenants")
    given = parser.parse_args()
    if given.vectors is not None:
        real = np.load(given.vectors)
    else:
        if not given.data.is_file() and not list(given.data.glob("*.json")):
            parser.error(f"no SQuAD-format file: {os.path.relpath(given.data)}. Give one, or its folder, with --data.")
        real = real_vectors(given.data, given.texts or (2200 if given.quick else 20_000), given.cache)
    if len(real) <= _QUERIES:
        parser.error(f"more than {_QUERIES} vectors are needed: the last {_QUERIES} are the queries")
    real, queries = np.ascontiguousarray(real[:-_QUERIES]), real[-_QUERIES:]
    sizes = given.sizes if given.sizes is not None else _SIZES[given.quick]
    many = given.tenants if given.tenants is not None else _TENANTS[given.quick]
    result: dict[str, Any] = {"sizes": {}, "tenants": {}}
    VectorIndex(real.shape[1], StoredVectors(np.arange(9), real[:9], {"d": range(9)})).search(queries[0], 1)  # warm
    rows = []
    for chunks in sizes:
        figures = result["sizes"][str(chunks)] = measure_size(real, queries, chunks, given.exact_up_to)
        if given.graph:
            figures |= measure_graph(real, queries, chunks)
        if given.database:
            figures |= in_database(real, queries, chunks)
        rows += [(f"{chunks:,} chunks", f"{value:.4g}", name) for name, value in figures.items()]
        print(f"{chunks:,} chunks: {json.dumps(figures)}", flush=True)
    for tenants in many:
        figures = result["tenants"][str(tenants)] = measure_tenants(real, queries, tenants, 3 if given.quick else 5)
        print(f"{tenants:,} tenants: {json.dumps(figures)}", flush=True)
        rows += [(f"{tenants:,} tenants", f"{value:.4g}", name) for name, value in figures.items() if name != "tenants"]
    if many:
        result["tenant_vs_filter_qps"] = result["tenants"][str(max(many))]["tenant_vs_filter_qps"]
    report(
        "Search as tenants grow", rows, f"Bound: at 1,000 tenants, their own indexes ≥ {BOUND} × one shared.", result
    )


if __name__ == "__main__":
    main()
