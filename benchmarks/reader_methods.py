"""Every method of training that applies to the reader, on one data set in one run, each in a process of its own.

For each: trained parameters, peak memory of its process, seconds per step, and token F1 on questions of other
paragraphs than it was trained on, beside the base's. Methods that need a language model are not measured here. Last
line: one JSON object with a key per method.

    python -m benchmarks.reader_methods [--quick] [--data DIR]
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from adapters.base_model import load_reader_base, reader_dtype
from adapters.spans import best_span
from adapters.squad import Question, f1_score, read_squad
from adapters.training import METHODS, Method, config_of
from adapters.training.settings import LOW_RANK, VIRTUAL_TOKENS
from adapters.training.trainer import train_reader_adapter
from benchmarks.measure import parse_arguments, report

LONGEST_TOKENS = 384
LONGEST_ANSWER = 64


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__ or "", default_set="tatqa-finance-test.json", repeats=1, quick_repeats=1)
    asked = read_squad(arguments.data)
    train = read_squad(arguments.data.with_name("tatqa-finance-train.json"))
    known = {question.context for question in train}
    asked = [question for question in asked if question.context not in known]
    if arguments.quick:
        train, asked = train[:32], asked[:24]
    methods: list[Method | None] = [None, *(method for method in METHODS if method not in VIRTUAL_TOKENS)]
    found: dict[str, dict[str, Any]] = {}
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["adapters.base_model", "adapters.training.trainer"])
    with ProcessPoolExecutor(1, mp_context=server, max_tasks_per_child=1) as one_by_one:
        for method in methods:
            epochs = 1.0 if arguments.quick else 3.0
            found[method or "base"] = one_by_one.submit(measure, method, train, asked, epochs).result()
            print(method or "base", found[method or "base"], flush=True)
    rows = [
        (name, f"F1 {f['f1']}", f"{f['trainable']} params, {f['peak_mb']} MB, {f['s_per_step']} s per step")
        for name, f in found.items()
    ]
    report("Methods on the reader", rows, f"{len(train)} examples, {len(asked)} questions", found)


def measure(
    method: Method | None, train: Sequence[Question], asked: Sequence[Question], epochs: float
) -> dict[str, Any]:
    """Train by one method, None for not at all, in this process; its figures."""
    warnings.simplefilter("ignore")
    base = load_reader_base(dtype=reader_dtype("auto"), attention="eager")
    trainable, seconds = 0, 0.0
    if method is not None:
        targets = {"targets": "all"} if method in LOW_RANK else {}
        config = config_of({"method": method, "epochs": epochs, **targets}, generates=False)
        with tempfile.TemporaryDirectory() as folder:
            trained = train_reader_adapter(base, train, Path(folder), config)
        trainable, seconds = trained.trainable, trained.seconds / trained.steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    scores = [f1_score(answer(base.model, base.tokenizer, q), [a.text for a in q.answers]) for q in asked]
    return {
        "trainable": trainable,
        "peak_mb": round(peak),
        "s_per_step": round(seconds, 3),
        "f1": round(100 * sum(scores) / len(scores), 1),
    }


@torch.inference_mode()
def answer(model: Any, tokenizer: Any, question: Question) -> str:
    """The best span of the question's own paragraph, as far as it fits one window."""
    pair = tokenizer(
        question.question, question.context, truncation="only_second", max_length=LONGEST_TOKENS,
        return_offsets_mapping=True, return_tensors="pt",
    )  # fmt: skip
    offsets = pair.pop("offset_mapping")[0].tolist()
    with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):  # what is trained is float32
        out = model.eval()(input_ids=pair["input_ids"], attention_mask=pair["attention_mask"])
    begin = pair.sequence_ids(0).index(1)
    start, end = out.start_logits[0].float().numpy(), out.end_logits[0].float().numpy()  # [T] each
    first, last, _ = best_span(start, end, begin, len(offsets) - 1, LONGEST_ANSWER, 0.0)
    return question.context[offsets[first][0] : offsets[last][1]]


if __name__ == "__main__":
    main()
