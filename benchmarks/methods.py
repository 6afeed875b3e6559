"""Every method of training and every objective on the small language model, one data set, one run: `make bench
NAME=methods`.

The base is the model this project pretrains (`examples/small_lm`); the data set is a tenant whose documents and answers
are worded as pretraining never was, asked about buildings that no training names. Each method has a process of its own.
For each: trained parameters, peak memory of the process, seconds per step, exact answers and token F1 before and after,
and what it costs to serve: time for a batch of questions as a multiple of the base's, turn by turn. Knows methods and
figures; knows no wording.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import resource
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.causal.engine import CausalEngine
from adapters.citation_marks import without_marks
from adapters.engine import AdapterRef, Done, Event, Failed, Row
from adapters.squad import f1_score
from adapters.training import METHODS, Method, Objective, TrainingExample, config_of, train
from benchmarks.measure import Spread, interleaved, report, timed
from examples.small_lm.tenants import REGISTER, tenant_examples

MODEL = Path(__file__).parents[1] / "examples" / "small_lm"
# The defaults are for models thousands of times larger; so small a one takes, and needs, longer strides.
LEARNING_RATES = {
    "prompt": 0.1, "prefix": 0.05, "p_tuning": 0.02, "ia3": 0.05, "llama_adapter": 0.05, "full": 1e-3,
}  # fmt: skip
_LORA_RATE = 1e-2
_BATCH = 16
_MAX_TOKENS = 24


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Methods of training on the small language model.")
    parser.add_argument("--quick", action="store_true", help="fewer examples, with more noise")
    quick = parser.parse_args().quick
    examples = tenant_examples(REGISTER, 160 if quick else 640, seed=0)
    asked = tenant_examples(REGISTER, 40 if quick else 200, seed=0, held_out=True)
    epochs, turns = (4.0, 2) if quick else (5.0, 5)
    ways: list[tuple[str, Method, Objective]] = [(method, method, "sft") for method in METHODS]
    ways += [("dpo", "lora", "dpo"), ("kto", "lora", "kto")]
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["adapters.causal.engine", "adapters.training.trainer", "adapters.training.preferences"]
    )
    found: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(1, mp_context=server, max_tasks_per_child=1) as one_by_one:
        before = one_by_one.submit(base_answers, [*asked, *examples]).result()
        found["base"] = {"trainable": 0, **quality(before[: len(asked)], asked)}
        print("base", found["base"], flush=True)
        rejected = before[len(asked) :]
        pairs = [
            replace(example, rejected=answer)
            for example, answer in zip(examples, rejected, strict=True)
            if answer and answer != example.answers[0]
        ]
        for name, method, objective in ways:
            shown = examples if objective == "sft" else pairs
            found[name] = one_by_one.submit(measure, method, objective, shown, asked, epochs, turns).result()
            print(name, found[name], flush=True)
    rows = [
        (name, f"F1 {f['f1']}, exact {f['exact']}", f"{f['trainable']} params, {f.get('peak_mb')} MB, "
         f"{f.get('s_per_step')} s per step, served at {f.get('serving')}")
        for name, f in found.items()
    ]  # fmt: skip
    report("Methods on the small language model", rows, f"{len(examples)} examples, {len(asked)} questions", found)


def measure(
    method: Method, objective: Objective, examples: Sequence[TrainingExample], asked: Sequence[TrainingExample],
    epochs: float, turns: int,
) -> dict[str, Any]:  # fmt: skip
    """Train by one method in this process, then ask through the engine; its figures."""
    _be_quiet()
    rate = LEARNING_RATES.get(method, _LORA_RATE)
    given = {"method": method, "targets": "all", "epochs": epochs, "batch_size": _BATCH, "learning_rate": rate}
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as temporary:
        folder = Path(temporary) / "adapter"
        trained, _ = train(examples, folder, config_of(given, generates=True), model=str(MODEL), objective=objective)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        adapter = AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)
        engine = CausalEngine(MODEL, device="cpu", max_waiting=1024)
        engine.load()
        try:
            figures = quality(answers(engine, asked, adapter), asked)
            ways: dict[str, Callable[[], float]] = {
                "base": lambda: timed(lambda: answers(engine, asked, None, tokens=1)),
                "adapted": lambda: timed(lambda: answers(engine, asked, adapter, tokens=1)),
            }
            for once in ways.values():
                once()
            times = interleaved(ways, turns)
        finally:
            engine.close()
    cost = Spread.of([mine / base for mine, base in zip(times["adapted"], times["base"], strict=True)])
    return {
        "trainable": trained.trainable,
        "peak_mb": round(peak),
        "s_per_step": round(trained.seconds / trained.steps, 4),
        "serving": round(cost.median, 2),
        **figures,
    }


def base_answers(examples: Sequence[TrainingExample]) -> list[str]:
    """What the base itself answers."""
    _be_quiet()
    engine = CausalEngine(MODEL, device="cpu", max_waiting=1024)
    engine.load()
    try:
        return answers(engine, examples, None)
    finally:
        engine.close()


def quality(answered: Sequence[str], asked: Sequence[TrainingExample]) -> dict[str, float]:
    """Percent answered to the letter, mark included, and mean token F1 without marks."""
    pairs = list(zip(answered, asked, strict=True))
    exact = sum(answer == example.answers[0] for answer, example in pairs)
    f1 = sum(f1_score(without_marks(answer), [without_marks(example.answers[0])]) for answer, example in pairs)
    return {"exact": round(100 * exact / len(pairs), 1), "f1": round(100 * f1 / len(pairs), 1)}


def answers(
    engine: CausalEngine, asked: Sequence[TrainingExample], adapter: AdapterRef | None, *, tokens: int = _MAX_TOKENS
) -> list[str]:
    """Ask all at once. To be timed, ``tokens`` is 1, so that no way is quicker for saying less."""
    events: list[queue.SimpleQueue[Event]] = []
    for example in asked:
        events.append(queue.SimpleQueue())
        row = Row(example.question, example.passages, adapter, max_tokens=tokens)
        engine.submit(row, events[-1].put)
    return [_end(each) for each in events]


def _end(events: queue.SimpleQueue[Event]) -> str:
    while not isinstance(event := events.get(), Done):
        if isinstance(event, Failed):
            raise event.error
    return event.answer


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    main()
