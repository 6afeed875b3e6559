"""Requests that come when they come: `make bench NAME=arrivals`.

Poisson arrivals at 50, 80 and 95 % of the throughput that the engine reaches when all requests are there at once. Time
to the first token and time per further token, of this project's engine and of a server that answers batch at a time
with transformers' `generate`: it takes what waits, and takes no more until the longest of these is done.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from adapters.engine import Done, Event, Failed, Row, Token
from benchmarks.generation_ways import OurEngine
from benchmarks.language_models import Shape, make_prompts, save_model, shapes, text_of
from benchmarks.measure import report, timed

LOADS = (50, 80, 95)
_LONGEST_IN, _LONGEST_OUT = 400, 32


@dataclass
class Heard:
    """One request: when it came, and when each of its tokens was there (seconds)."""

    prompt: Sequence[int]
    length: int
    came: float = 0.0
    tokens: list[float] = field(default_factory=list)


def make_requests(shape: Shape, count: int) -> list[Heard]:
    """Requests of mixed lengths."""
    chance = random.Random(1)
    prompts = make_prompts(shape, [chance.randint(_LONGEST_IN // 4, _LONGEST_IN) for _ in range(count)])
    return [Heard(prompt, chance.randint(_LONGEST_OUT // 4, _LONGEST_OUT)) for prompt in prompts]


def arrive(requests: Sequence[Heard], rate: float, take: Any) -> None:
    """Hand requests over as they come, ``rate`` a second on average; the same times for everyone."""
    chance = random.Random(2)
    at = time.perf_counter()
    for request in requests:
        at += chance.expovariate(rate)
        time.sleep(max(0.0, at - time.perf_counter()))
        request.came = at
        take(request)


def ask_ours(engine: OurEngine, requests: Sequence[Heard], rate: float) -> None:
    """The engine under arrivals; waits for the last answer."""
    left = threading.Semaphore(0)
    failed: list[Exception] = []

    def take(request: Heard) -> None:
        def hear(event: Event) -> None:
            if isinstance(event, Token):
                request.tokens.append(time.perf_counter())
            elif isinstance(event, Done | Failed):
                if isinstance(event, Failed):
                    failed.append(event.error)
                left.release()

        row = Row(text_of(request.prompt), (), max_tokens=request.length, grounded=False)
        engine.engine.submit(row, hear)

    arrive(requests, rate, take)
    for _ in requests:
        left.acquire()
    if failed:
        raise failed[0]


class _Watch(StoppingCriteria):  # type: ignore[misc]
    """Notes when each step's tokens are there; stops nothing."""

    def __init__(self, batch: Sequence[Heard]) -> None:
        self._batch = batch

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        now = time.perf_counter()
        for request in self._batch:
            if len(request.tokens) < request.length:
                request.tokens.append(now)
        return torch.zeros(len(input_ids), dtype=torch.bool)


def ask_batches(model: Any, requests: Sequence[Heard], rate: float, rows: int) -> None:
    """Batch at a time under the same arrivals."""
    waiting: list[Heard] = []
    change = threading.Condition()

    def take(request: Heard) -> None:
        with change:
            waiting.append(request)
            change.notify()

    arriving = threading.Thread(target=arrive, args=(requests, rate, take))
    arriving.start()
    done = 0
    while done < len(requests):
        with change:
            change.wait_for(lambda: bool(waiting))
            batch = waiting[:rows]
            del waiting[:rows]
        longest = max(len(r.prompt) for r in batch)
        ids = torch.tensor([[0] * (longest - len(r.prompt)) + list(r.prompt) for r in batch])  # [B, T]
        seen = torch.tensor([[0] * (longest - len(r.prompt)) + [1] * len(r.prompt) for r in batch])  # [B, T]
        config = GenerationConfig(
            max_new_tokens=max(r.length for r in batch), do_sample=False, eos_token_id=None, pad_token_id=0
        )
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=seen, generation_config=config,
                stopping_criteria=StoppingCriteriaList([_Watch(batch)]),
            )  # fmt: skip
        done += len(batch)
    arriving.join()


def figures(requests: Sequence[Heard]) -> dict[str, float]:
    """Milliseconds: to the first token, and per further token of a request."""
    first = [1000 * (r.tokens[0] - r.came) for r in requests]
    each = [1000 * (r.tokens[-1] - r.tokens[0]) / (len(r.tokens) - 1) for r in requests if len(r.tokens) > 1]
    return {
        "ttft_p50_ms": round(float(np.percentile(first, 50)), 1),
        "ttft_p95_ms": round(float(np.percentile(first, 95)), 1),
        "tpot_p50_ms": round(float(np.percentile(each, 50)), 2),
        "tpot_p95_ms": round(float(np.percentile(each, 95)), 2),
    }


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Time to the first token under Poisson arrivals.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: a 3M model, 48 requests a load")
    parser.add_argument("--requests", type=int, help="of each load (default: 200, quick: 48)")
    given = parser.parse_args()
    shape = shapes()["3M" if given.quick else "20M"]
    count = given.requests or (48 if given.quick else 200)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
        path = save_model(shape, Path(folder))
        model = AutoModelForCausalLM.from_pretrained(path).eval().requires_grad_(False)
        engine = OurEngine(path, [], rows=shape.rows)
        try:
            whole = make_requests(shape, count)
            for _ in range(2):  # the first warms up
                seconds = timed(lambda: ask_ours(engine, whole, 1e9))
            capacity = count / seconds
            for load in LOADS:
                rate = capacity * load / 100
                ours, batches = make_requests(shape, count), make_requests(shape, count)
                ask_ours(engine, ours, rate)
                ask_batches(model, batches, rate, shape.rows)
                result[str(load)] = {"ours": figures(ours), "batch_at_a_time": figures(batches)}
        finally:
            engine.close()
    lines = [
        (f"{load} %: {name}, {way}", str(result[str(load)][way][name]), "ms")
        for load in LOADS
        for name in ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "tpot_p95_ms")
        for way in ("ours", "batch_at_a_time")
    ]
    report(
        f"{shape.name}: {count} requests a load, up to {_LONGEST_IN} tokens in and {_LONGEST_OUT} out, "
        f"{capacity:.1f} requests/s when all are there at once",
        lines,
        "Both get the same requests at the same times.",
        {"loads": result, "capacity_per_second": round(capacity, 2), "model": shape.name, "requests": count,
         "threads": torch.get_num_threads()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
