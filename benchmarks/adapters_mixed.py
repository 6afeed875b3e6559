"""What an adapter per row costs: `make bench NAME=adapters_mixed`.

Sets this project's engine, on the base model alone and with rows on K distinct adapters, beside peft's mixed batch
(`adapter_names`), peft one adapter after another (`set_adapter`), transformers' continuous batching (`generate_batch`,
which knows no adapters) and, where it is installed, the package `polylora`; on random weights of known sizes, turn by
turn in one run. Two loads: RAG-shaped requests (400 tokens in, 32 out) on q and v of rank 8, and decoding alone (8 in,
64 out) on all linear layers of rank 16. Every figure is a ratio of throughputs, beside the bound that weights alone
set.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.generation_ways import (
    ContinuousBatching,
    OurEngine,
    PaddedGenerate,
    PeftInTurn,
    PeftMixedBatch,
    PolyLora,
    Way,
)
from benchmarks.language_models import (
    ALL_LINEAR,
    QV,
    Shape,
    bound,
    make_prompts,
    rho,
    save_adapters,
    save_model,
    shapes,
)
from benchmarks.measure import Spread, interleaved, processor_time, report, timed

DISTINCT = (1, 2, 4, 8, 16, 32)
_ENDS = (1, 32)  # the K of models that take long


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind, and the adapters they are on."""

    name: str
    tokens_in: int
    tokens_out: int
    rank: int
    targets: Sequence[str]


RAG = Load("RAG: 400 in, 32 out, q and v, rank 8", 400, 32, 8, QV)
DECODE = Load("decoding: 8 in, 64 out, all linear, rank 16", 8, 64, 16, ALL_LINEAR)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each way, turn by turn, and the bound of each K."""

    seconds: Mapping[str, Sequence[float]]
    bounds: Mapping[int, float]

    def ratio(self, way: str, other: str) -> Spread:
        """Throughput of one way as a multiple of another's, turn against turn."""
        return Spread.of([b / a for a, b in zip(self.seconds[way], self.seconds[other], strict=True)])


def measure(
    shape: Shape,
    load: Load,
    distinct: Sequence[int],
    peers_at: Sequence[int],
    turns: int,
    *,
    few: bool = False,
    clock: Callable[[Callable[[], object]], float] = timed,
) -> Measured:
    """Every way, turn by turn.

    Args:
        distinct: the K at which the engine is measured; ``peers_at``: those at which others are.
        few: of the others only peft's mixed batch.
        clock: what a second is.
    """
    most = min(max(distinct), shape.rows)
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        model = save_model(shape, Path(folder) / "model")
        adapters = save_adapters(model, Path(folder), count=most, rank=load.rank, targets=load.targets)
        prompts = make_prompts(shape, [load.tokens_in] * shape.rows)
        lengths = [load.tokens_out] * shape.rows
        made: dict[str, Way] = {
            "ours": OurEngine(model, adapters, rows=shape.rows),
            "peft adapter_names": PeftMixedBatch(model, adapters),
        }
        if not few:
            made["peft set_adapter"] = PeftInTurn(model, adapters)
            made["generate, padded"] = PaddedGenerate(model)
            made["generate_batch"] = ContinuousBatching(model)
        if not few and importlib.util.find_spec("polylora"):
            made["polylora"] = PolyLora(model, adapters, rank=load.rank, targets=load.targets)

        def work(way: str, k: int | None, tokens: int | None = None) -> float:
            chosen = [None if k is None else i % k for i in range(shape.rows)]
            out = lengths if tokens is None else [tokens] * shape.rows
            return clock(lambda: made[way].generate(prompts, chosen, out))

        ways: dict[str, Callable[[], float]] = {"ours, base": partial(work, "ours", None)}
        ways["ours, base, prompts only"] = partial(work, "ours", None, 1)
        for k in distinct:
            ways[f"ours, K={k}"] = partial(work, "ours", k)
            for peer in ("peft adapter_names", "peft set_adapter", "polylora"):
                if peer in made and k in peers_at:
                    ways[f"{peer}, K={k}"] = partial(work, peer, k)
        for peer in ("generate, padded", "generate_batch"):
            if peer in made:
                ways[f"{peer}, base"] = partial(work, peer, None)
        try:
            for way in ways.values():
                way()  # first calls make thread pools and buffers
            seconds = interleaved(ways, turns)
        finally:
            for model_way in made.values():
                model_way.close()
    share = min(1.0, median(seconds["ours, base, prompts only"]) / median(seconds["ours, base"]))
    weight = rho(shape, load.rank, load.targets)
    return Measured(seconds, {k: bound(weight, k, share) for k in distinct})


def rows_of(shape: Shape, load: Load, found: Measured) -> list[tuple[str, str, str]]:
    """Lines of the table."""
    label = f"{shape.name}, {load.name}"
    base = median(found.seconds["ours, base"])
    lines = [(f"{label}: ours, base", f"{shape.rows / base:.2f}", "requests/s")]
    for way in found.seconds:
        if way.startswith("ours, base"):
            continue
        k = int(way.rpartition("=")[2]) if "=" in way else None
        limit = f", bound {found.bounds[k]:.3f}" if k and way.startswith("ours") else ""
        lines.append((f"{label}: {way}", str(found.ratio(way, "ours, base")), f"of ours, base{limit}"))
    return lines


def result_of(found: Measured) -> dict[str, Any]:
    """The figures of RAG-shaped requests."""
    most, least = max(found.bounds), min(found.bounds)
    to_base = found.ratio(f"ours, K={most}", "ours, base").median
    return {
        "k32_vs_base": round(to_base, 3),
        "k32_vs_peft": round(found.ratio(f"ours, K={most}", f"peft adapter_names, K={most}").median, 3),
        "k32_vs_k1": round(found.ratio(f"ours, K={most}", f"ours, K={least}").median, 3),
        "bound": round(found.bounds[most], 3),
        "of_bound": round(to_base / found.bounds[most], 3),
    }


def main() -> None:
    """Run the measurement."""
    known = shapes()
    parser = argparse.ArgumentParser(description="What an adapter per row costs, beside peft and others.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: a 3M model, and --few")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 3)")
    parser.add_argument("--models", default=None, help=f"of {', '.join(known)}, by comma (default: 20M,135M,0.5B)")
    parser.add_argument("--few", action="store_true", help="K = 1 and 32 only, and of the others only peft at 32")
    parser.add_argument("--rows", type=int, help="requests at once (default: 32; 0.5B: 8)")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure that, not the clock: for a busy machine, with one thread"
    )
    given = parser.parse_args()
    if given.processor_time:
        torch.set_num_threads(1)
    clock = processor_time if given.processor_time else timed
    few = given.few or given.quick
    names = (given.models or ("3M" if given.quick else "20M,135M,0.5B")).split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    turns = given.repeats or (3 if given.quick else 5)
    lines: list[tuple[str, str, str]] = []
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "turns": turns,
        "time": "processor" if given.processor_time else "clock",
        "models": {},
    }
    for name in names:
        shape = known[name] if given.rows is None else replace(known[name], rows=given.rows)
        distinct: tuple[int, ...] = DISTINCT if name == "20M" and not few else _ENDS
        distinct = tuple(k for k in distinct if k <= shape.rows) if given.rows else distinct
        distinct = (*distinct, shape.rows) if given.rows and shape.rows not in distinct else distinct
        peers_at = distinct[-1:] if few else distinct
        found = measure(shape, RAG, distinct, peers_at, turns, few=few, clock=clock)
        lines += rows_of(shape, RAG, found)
        result["models"][name] = result_of(found)
    smallest = known[names[0]]
    decode = measure(smallest, DECODE, _ENDS, _ENDS[-1:] if few else _ENDS, turns, few=few, clock=clock)
    lines += rows_of(smallest, DECODE, decode)
    most = max(decode.bounds)
    result["decode_vs_peft"] = round(decode.ratio(f"ours, K={most}", f"peft adapter_names, K={most}").median, 3)
    result["decode_vs_base"] = round(decode.ratio(f"ours, K={most}", "ours, base").median, 3)
    result["decode_bound"] = round(decode.bounds[most], 3)
    report(
        "An adapter per row: throughput of the same requests",
        lines,
        "To reach: K=32 at least 0.90 of base and 0.9 of the bound, 0.95 of K=1, never below peft; decoding 3 x peft.",
        result,
    )


if __name__ == "__main__":
    main()
