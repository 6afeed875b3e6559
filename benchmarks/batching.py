"""Batching anew at every step, against a padded batch: `make bench NAME=batching`.

The base model alone. Sets this project's engine beside transformers' `generate` over one padded batch, with prompts and
answers of equal and of mixed lengths, and beside `generate_batch`, transformers' own continuous batching; random
weights, turn by turn in one run. Figures are throughputs as multiples of the other's.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.generation_ways import ContinuousBatching, OurEngine, PaddedGenerate, Way
from benchmarks.language_models import make_prompts, save_model, shapes
from benchmarks.measure import Spread, interleaved, report, timed

_IN, _OUT = 128, 64


def mixed_lengths(rows: int) -> tuple[list[int], list[int]]:
    """Tokens in and out of each row: from an eighth of the longest up to it."""
    chance = random.Random(0)
    return (
        [chance.randint(_IN // 8, 2 * _IN) for _ in range(rows)],
        [chance.randint(_OUT // 8, 2 * _OUT) for _ in range(rows)],
    )


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Batching anew at every step, against padded batches.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: a 3M model, 16 rows")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 3)")
    given = parser.parse_args()
    shape = shapes()["3M" if given.quick else "20M"]
    turns, rows = given.repeats or (3 if given.quick else 5), 16 if given.quick else shape.rows
    loads = {"equal": ([_IN] * rows, [_OUT] * rows), "mixed": mixed_lengths(rows)}
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        model = save_model(shape, Path(folder))
        ours, padded = OurEngine(model, [], rows=rows), PaddedGenerate(model)
        batches = ContinuousBatching(model)

        def work(way: Way, load: str) -> float:
            tokens_in, tokens_out = loads[load]
            prompts = make_prompts(shape, tokens_in)
            return timed(lambda: way.generate(prompts, [None] * rows, tokens_out))

        ways: dict[str, Callable[[], float]] = {
            "ours, equal": lambda: work(ours, "equal"),
            "ours, mixed": lambda: work(ours, "mixed"),
            "generate, equal": lambda: work(padded, "equal"),
            "generate, mixed": lambda: work(padded, "mixed"),
            "generate_batch, equal": lambda: work(batches, "equal"),
        }
        for once in ways.values():
            once()
        seconds = interleaved(ways, turns)
        ours.close()

    def ratio(mine: str, other: str) -> Spread:
        return Spread.of([b / a for a, b in zip(seconds[mine], seconds[other], strict=True)])

    figures = {
        "vs_generate_equal": ratio("ours, equal", "generate, equal"),
        "vs_generate_mixed": ratio("ours, mixed", "generate, mixed"),
        "vs_generate_batch": ratio("ours, equal", "generate_batch, equal"),
    }
    lines = [(way, str(Spread.of(taken)), "s") for way, taken in seconds.items()]
    lines += [(name, str(figure), "x") for name, figure in figures.items()]
    report(
        f"{shape.name}, {rows} rows, about {_IN} tokens in and {_OUT} out, {turns} turns",
        lines,
        "To reach: 1.0 x a padded generate at equal lengths, 1.5 x at mixed ones, 2 x generate_batch.",
        {
            **{name: round(figure.median, 2) for name, figure in figures.items()},
            "model": shape.name,
            "threads": torch.get_num_threads(),
            "turns": turns,
        },
    )


if __name__ == "__main__":
    main()
