"""A step of training against a bare peft loop at the same settings, on the reader, turn by turn; and what questions
to a server suffer while a training runs in it.

Both train the same LoRA on the same batches: the service's loop with its examples, schedule, progress and checkpoints,
and the shortest loop that peft and torch allow over tensors made beforehand. Last line: one JSON object with
``step_vs_peft``, the speed of ours over the bare one's, and ``serving_ratio_p50`` and ``_p95``, the latency of a
question beside a training over that without one.

    python -m benchmarks.training [--quick] [--data DIR]
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model

from adapters.base_model import load_reader_base, reader_dtype
from adapters.squad import Question, read_squad
from adapters.training import TrainingConfig, config_of
from adapters.training.examples import ExampleSource
from adapters.training.trainer import collate, keep_freed_memory, train_reader_adapter
from benchmarks.measure import Spread, parse_arguments, report
from benchmarks.serving import serving_ratios

RANK, BATCH, LENGTH, RATE = 8, 8, 320, 1e-3


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__ or "", default_set="squad-v1.1-dev36.json", repeats=7, quick_repeats=3)
    steps = 6 if arguments.quick else 20
    questions = read_squad(arguments.data)[: steps * BATCH]
    keep_freed_memory()
    given = {"epochs": 1.0, "lookalike_share": 0.0, "batch_size": BATCH, "rank": RANK, "max_length": LENGTH}
    config = config_of({**given, "learning_rate": RATE}, generates=False)
    ratios = []
    for repeat in range(arguments.repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            ways = [lambda: ours(questions, config, Path(folder)), lambda: bare(questions, config)]
            first = repeat % 2
            seconds = {first: ways[first](), 1 - first: ways[1 - first]()}
        if repeat:  # the first turn warms up
            ratios.append(seconds[1] / seconds[0])
    rounds, asked = (2, 30) if arguments.quick else (6, 100)
    serving = serving_ratios(read_squad(arguments.data)[:200], rounds, asked)
    turns = f"{rounds} turns of {asked} questions"
    report(
        "Training on the reader, LoRA r8 on q,v",
        [
            (
                "bare peft loop / ours, seconds per step",
                str(Spread.of(ratios)),
                f"{len(ratios)} turns of {steps} steps",
            ),
            ("/ask beside a training / without, median", str(Spread.of(serving.p50)), turns),
            ("/ask beside a training / without, 95th percentile", str(Spread.of(serving.p95)), turns),
            ("/ask without a training, median", f"{serving.alone_ms:.1f}", "ms"),
        ],
        "steps at least 0.95, questions at most 1.3",
        {
            "step_vs_peft": round(statistics.median(ratios), 3),
            "serving_ratio_p50": round(statistics.median(serving.p50), 3),
            "serving_ratio_p95": round(statistics.median(serving.p95), 3),
            "steps": steps,
            "turns": len(ratios),
        },
    )


def ours(questions: Sequence[Question], config: TrainingConfig, folder: Path) -> float:
    """Seconds a step takes in the service's loop, all it does beside included."""
    base = load_reader_base(dtype=reader_dtype("auto"), attention="eager")
    trained = train_reader_adapter(base, questions, folder, config, report_every=1)
    return trained.seconds / trained.steps


def bare(questions: Sequence[Question], config: TrainingConfig) -> float:
    """Seconds a step takes in a plain peft loop over the same examples, batched by the same rule."""
    base = load_reader_base(dtype=reader_dtype("auto"), attention="eager")
    source = ExampleSource(questions, base.tokenizer, max_length=config.max_length)
    order = sorted(range(len(source)), key=source.length)
    batches = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    random.Random(0).shuffle(batches)
    tensors = [
        collate([source.draw(i, random.Random(i)) for i in batch], base.tokenizer.pad_token_id) for batch in batches
    ]
    for module in base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.hidden_dropout
    for layer in base.model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    lora = LoraConfig(task_type=TaskType.QUESTION_ANS, r=RANK, lora_alpha=2 * RANK, target_modules=["query", "value"])
    model = get_peft_model(base.model, lora).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=RATE, weight_decay=config.weight_decay)
    began = time.monotonic()
    for batch in tensors:
        with torch.autocast("cpu", torch.bfloat16, enabled=base.model.dtype == torch.bfloat16):
            loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
    return (time.monotonic() - began) / len(tensors)


if __name__ == "__main__":
    main()
