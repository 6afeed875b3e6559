"""Many adapters, few in memory: `make bench NAME=pool`.

Three figures of the adapter pool through the engine: throughput of Zipf-distributed requests over 1,000 registered
adapters, 32 of them in memory at once, as a share of that over 32 registered (in full over 64 too: no cliff at twice
the pool); bringing an adapter into memory as a multiple of reading its file; and the memory it takes as a multiple of
its file. Files are in the system's cache for both.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.engine import AdapterRef
from benchmarks.generation_ways import OurEngine
from benchmarks.language_models import Shape, make_prompts, save_adapters, save_model, shapes
from benchmarks.measure import Spread, interleaved, report, timed

RESIDENT = 32
_IN, _OUT, _RANK = 400, 32, 8


def registered(adapters: Sequence[AdapterRef], folder: Path, count: int) -> list[AdapterRef]:
    """``count`` adapters on disk; weights come again, versions do not: each is loaded for itself."""
    found = list(adapters)
    for i in range(len(adapters), count):
        like = adapters[i % len(adapters)]
        found.append(AdapterRef(like.sha256, Path(shutil.copytree(like.folder, folder / f"registered-{i}"))))
    return found[:count]


def zipf(count: int, requests: int, *, seed: int) -> list[int]:
    """Which adapter each request is on: number k is asked for in proportion to 1 / (k + 1)."""
    return random.Random(seed).choices(range(count), weights=[1 / (k + 1) for k in range(count)], k=requests)


class Throughput:
    """Seconds that Zipf-distributed requests take over a number of registered adapters, each in an engine of its own
    with room for `RESIDENT`."""

    def __init__(self, shape: Shape, model: Path, adapters: Sequence[AdapterRef], requests: int) -> None:
        self._prompts = make_prompts(shape, [_IN] * requests)
        self._count, self._requests, self._turn = len(adapters), requests, 0
        size = sum(t.nbytes for t in load_file(adapters[0].folder / ADAPTER_WEIGHTS).values())
        self._engine = OurEngine(model, adapters, rows=shape.rows, adapter_bytes=RESIDENT * size, prepared=RESIDENT)

    def __call__(self) -> float:
        self._turn += 1
        chosen = zipf(self._count, self._requests, seed=self._turn)
        return timed(lambda: self._engine.generate(self._prompts, chosen, [_OUT] * self._requests))

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def cold_loads(model: Path, adapters: Sequence[AdapterRef], turns: int) -> tuple[list[float], list[float], float]:
    """Milliseconds of bringing adapters into memory and of reading their files, and bytes held per byte of file."""
    engine = OurEngine(model, adapters, rows=1, prepared=0)
    loads: list[float] = []
    reads: list[float] = []
    try:
        for turn in range(turns + 1):
            for i, adapter in enumerate(adapters):
                path = adapter.folder / ADAPTER_WEIGHTS
                ways = [("read", lambda path=path: [t.clone() for t in load_file(path).values()]),
                        ("load", lambda i=i: engine.prepare(i))]  # fmt: skip
                for name, way in ways if i % 2 else reversed(ways):
                    taken = timed(way) * 1000
                    if turn:  # the first warms up
                        (loads if name == "load" else reads).append(taken)
                held = engine.resident_bytes()
                engine.unload(i)
        return loads, reads, held / path.stat().st_size
    finally:
        engine.close()


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Many adapters registered, few in memory.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: a 3M model, fewer requests")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 3)")
    given = parser.parse_args()
    shape = shapes()["3M" if given.quick else "20M"]
    turns, requests = given.repeats or (3 if given.quick else 5), 64 if given.quick else 128
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        model = save_model(shape, Path(folder) / "model")
        own = save_adapters(model, Path(folder), count=RESIDENT, rank=_RANK)
        loads, reads, bytes_vs_file = cold_loads(model, own[:8], turns)
        adapters = registered(own, Path(folder), 1000)
        counts = (RESIDENT, 1000) if given.quick else (RESIDENT, 2 * RESIDENT, 1000)
        ways = {str(n): Throughput(shape, model, adapters[:n], requests) for n in counts}
        try:
            for way in ways.values():
                way()
            seconds = interleaved(ways, turns)
        finally:
            for way in ways.values():
                way.close()
    few = seconds[str(RESIDENT)]
    shares = {n: Spread.of([b / a for a, b in zip(taken, few, strict=True)]) for n, taken in seconds.items()}
    lines = [(f"{n} registered", str(share), f"of {RESIDENT} registered") for n, share in shares.items()]
    lines += [("load", str(Spread.of(loads)), "ms"), ("read the file", str(Spread.of(reads)), "ms")]
    report(
        f"{shape.name}: {requests} Zipf requests, {_IN} in, {_OUT} out, q and v of rank {_RANK}, {RESIDENT} resident",
        lines,
        "To reach: 0.9 of 32 registered, a load at most 2 x reading its file, memory at most 1.2 x its file.",
        {
            "zipf1000_vs_32": round(shares["1000"].median, 3),
            **({} if given.quick else {"zipf64_vs_32": round(shares[str(2 * RESIDENT)].median, 3)}),
            "load_vs_read": round(median(loads) / median(reads), 2),
            "load_ms": round(median(loads), 2),
            "bytes_vs_file": round(bytes_vs_file, 3),
            "model": shape.name,
            "threads": torch.get_num_threads(),
            "turns": turns,
        },
    )


if __name__ == "__main__":
    main()
