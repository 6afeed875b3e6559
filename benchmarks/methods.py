"""Every method of training and every objective on the small language model, one data set, one run: `make bench
NAME=methods`.

The base is the model this project pretrains (`examples/small_lm`); the data set is a tenant whose documents and answers
are worded as pretraining never was, asked about buildings that no training names. Each method has a process of its own.
For each: trained parameters, peak memory of the process, seconds per step, exact answers and token F1 before and after,
and what it costs to serve: time for a batch of questions as a multiple of the base's, turn by turn. ``--rates`` instead
looks at the service's default learning rates: the loss on examples that were not trained on, at a third of the default,
at it, and at three times as much. Knows methods and figures; knows no wording.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import random
import resource
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers.utils import logging as transformers_logging

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.causal.engine import CausalEngine
from adapters.causal.model import CausalModel, load_causal_model
from adapters.citation_marks import without_marks
from adapters.engine import AdapterRef, Done, Event, Failed, Row
from adapters.squad import f1_score
from adapters.training import METHODS, Method, Objective, TrainingExample, config_of, train
from adapters.training.language import AnswerWriting
from adapters.training.settings import LOW_RANK
from adapters.training.trainer import train_adapter
from benchmarks.measure import Spread, interleaved, report, timed
from examples.small_lm.tenants import REGISTER, tenant_examples

MODEL = Path(__file__).parents[1] / "examples" / "small_lm"
# The defaults are for models thousands of times larger; so small a one takes, and needs, longer strides. By the loss on
# examples of another seed.
LEARNING_RATES = {
    "rslora": 3e-3, "prompt": 0.1, "prefix": 0.3, "p_tuning": 5e-3, "bottleneck": 2e-2, "ia3": 0.2,
    "llama_adapter": 0.3, "full": 1e-3,
}  # fmt: skip
_LORA_RATE = 1e-2
_VIRTUAL_TOKENS = {"prompt": 64, "p_tuning": 64}  # the embeddings of 16 steer so narrow a model little
_BATCH = 16
_MAX_TOKENS = 24


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Methods of training on the small language model.")
    parser.add_argument("--quick", action="store_true", help="fewer examples, with more noise")
    parser.add_argument("--rates", action="store_true", help="the default learning rates, by the loss alone")
    given = parser.parse_args()
    quick = given.quick
    if given.rates:
        look_at_rates()
        return
    examples = tenant_examples(REGISTER, 96 if quick else 320, seed=0)
    asked = tenant_examples(REGISTER, 24 if quick else 100, seed=0, held_out=True)
    epochs, turns = (4.0, 2) if quick else (5.0, 3)
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
    given: dict[str, Any] = {"method": method, "epochs": epochs, "batch_size": _BATCH, "learning_rate": rate}
    if method in LOW_RANK:
        given["targets"] = "all"
    if method in _VIRTUAL_TOKENS:
        given["virtual_tokens"] = _VIRTUAL_TOKENS[method]
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as temporary:
        folder = Path(temporary) / "adapter"
        trained, _ = train(examples, folder, config_of(given, generates=True), model=str(MODEL), objective=objective)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        adapter = AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)
        engine = CausalEngine(MODEL, device="cpu", max_waiting=2 * len(asked))
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


def look_at_rates() -> None:
    """Train by each method as the service would with nothing else said, at three learning rates; print the losses."""
    _be_quiet()
    trained_on, kept_back = (tenant_examples(REGISTER, count, seed=seed) for count, seed in ((160, 1), (64, 2)))

    def task(model: CausalModel, examples: Sequence[TrainingExample]) -> AnswerWriting:
        return AnswerWriting(examples, model.tokenizer, min(model.eos_ids), model.pad_id, model.context)

    base = load_causal_model(str(MODEL), dtype="auto")
    found: dict[str, Any] = {"base": round(_loss(base.model, task(base, kept_back)), 2)}
    for method in METHODS:
        default = config_of({"method": method}, generates=True).learning_rate
        losses = []
        for rate in (default / 3, default, default * 3):
            model = load_causal_model(str(MODEL), dtype="auto")
            config = config_of({"method": method, "learning_rate": rate}, generates=True)
            with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as folder:
                train_adapter(model.model, task(model, trained_on), Path(folder), config)
                losses.append(round(_loss(_with_adapter(method, Path(folder), model), task(model, kept_back)), 2))
        found[method] = {"default": default, "losses": losses}
        print(method, found[method], flush=True)
    rows = [(method, ", ".join(map(str, f["losses"])), f"at {f['default']:g} / 3, × 1, × 3")
            for method, f in found.items() if method != "base"]  # fmt: skip
    report("Default learning rates", rows, f"the base's loss is {found['base']}", found)


def _with_adapter(method: Method, folder: Path, trained: CausalModel) -> Any:
    """The network as plain peft reads it back; as it is, for the methods that peft does not have."""
    if method in ("bottleneck", "full"):
        return trained.model
    return PeftModel.from_pretrained(load_causal_model(str(MODEL), dtype="auto").model, str(folder))


def _loss(network: Any, task: AnswerWriting) -> float:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=network.dtype == torch.bfloat16):
        return float(task.loss(network.eval(), range(len(task)), random.Random(0)))


def base_answers(examples: Sequence[TrainingExample]) -> list[str]:
    """What the base itself answers."""
    _be_quiet()
    engine = CausalEngine(MODEL, device="cpu", max_waiting=2 * len(examples))  # one asker may fill half of it
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
