"""The training loop: batches, learning rate, checkpoints, progress.

One loop for all uses: the reader itself (on the raw encoder), a tenant's adapter (on the reader's base or a language
model), the reranker. Deterministic for a seed, checkpointed and resumable; reports progress through a callback.
Knows models and tasks; knows no service, no tenants. What is trained in a model is the business of `methods`.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.base_model import ReaderBase
from adapters.errors import InvalidTrainingData
from adapters.squad import Question
from adapters.training.alterations import QuestionAlterer, word_neighbours
from adapters.training.examples import ExampleSource, Feature
from adapters.training.methods import Adapted, adapt
from adapters.training.settings import TrainingConfig

_CHECKPOINT = "checkpoint.pt"
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """State after a step: mean loss since the last report, examples per second since the start."""

    step: int
    steps: int
    loss: float
    examples_per_second: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made.

    Attributes:
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        loss: mean of the last reported steps.
        seconds: time in the loop, of all processes that worked on the run.
    """

    folder: Path
    steps: int
    trainable: int
    loss: float
    seconds: float


class TrainingTask(Protocol):
    """What is learned: examples by number, and the loss of some of them."""

    def __len__(self) -> int:
        """How many examples there are."""

    def length(self, index: int) -> int:
        """About how many tokens an example takes, so that those of similar length share a batch."""

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        """The loss of a batch, a scalar with gradients; whatever is drawn is drawn from ``rng``."""


class SpanReading:
    """The reader's task: to point at the answer in a passage, or at no token (`TrainingTask`)."""

    def __init__(self, source: ExampleSource, pad: int) -> None:
        self._source = source
        self._pad = pad

    def __len__(self) -> int:
        return len(self._source)

    def length(self, index: int) -> int:
        return self._source.length(index)

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        features = collate([self._source.draw(i, rng) for i in batch], self._pad)
        out = model(**{k: features[k] for k in ("input_ids", "attention_mask")})
        return (  # logits [B, T]
            F.cross_entropy(out.start_logits.float(), features["start_positions"])
            + F.cross_entropy(out.end_logits.float(), features["end_positions"])
        ) / 2


def train_reader_adapter(
    base: ReaderBase,
    questions: Sequence[Question],
    output: Path,
    config: TrainingConfig,
    *,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    report_every: int = 25,
    checkpoint_seconds: float = math.inf,
) -> Trained:
    """Train an adapter that reads answers out of passages: `train_adapter` with the task `SpanReading`.

    Raises:
        InvalidTrainingData: no question has an answer; or see `train_adapter`.
    """
    if not any(q.answerable for q in questions):
        raise InvalidTrainingData("The training set holds no answered question: nothing can be learned from it.")
    source = ExampleSource(
        questions,
        base.tokenizer,
        max_length=config.max_length,
        lookalike_share=config.lookalike_share,
        altered_share=config.altered_share,
        alterer=make_alterer(base, questions) if config.altered_share else None,
    )
    task = SpanReading(source, base.tokenizer.pad_token_id)
    prepare_reader(base.model, config)
    return train_adapter(
        base.model, task, output, config,
        report=report, report_every=report_every, checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip


def prepare_reader(model: Any, config: TrainingConfig) -> None:
    """Set the dropout of the run in an encoder, none where attention is weighed."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.hidden_dropout
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0


def train_adapter(
    model: Any,
    task: TrainingTask,
    output: Path,
    config: TrainingConfig,
    *,
    start: Path | None = None,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    report_every: int = 25,
    checkpoint_seconds: float = math.inf,
) -> Trained:
    """Train an adapter on ``model`` and write it to ``output`` in peft's format.

    Layers are put into ``model``: use one of its own. An interrupted run goes on from the checkpoint in ``output`` when
    called again with the same arguments.

    Args:
        start: the folder of an adapter of the same shape to begin with, instead of B = 0.
        checkpoint_seconds: a checkpoint is written also when so long has passed since the last.

    Raises:
        InvalidTrainingData: a checkpoint of other settings lies in ``output``, or the adapter in ``start`` has another
            shape.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    adapted = adapt(model.float() if config.method == "full" else model, config)  # its updates vanish in bfloat16
    if start is not None:
        _load_weights(adapted, start)
    network = adapted.model.train()
    trainable = [p for p in network.parameters() if p.requires_grad]
    begun = {n: tensor.detach().clone() for n, tensor in adapted.state().items()} if config.strength < 1 else {}
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = math.ceil(len(task) / config.batch_size)
    steps = max(1, round(config.epochs * per_epoch))
    output.mkdir(parents=True, exist_ok=True)
    settings = _settings(config, len(task), start)
    done, before = _resume(output, settings, config.seed, adapted, optimizer)

    started = saved = time.monotonic()
    losses: list[float] = []
    mean = math.nan
    for step in range(done, steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0 or step == done:
            batches = _epoch_batches(task, config, epoch)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(step, steps, config)
        with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            loss = task.loss(network, batches[position], random.Random(f"{config.seed}/{step}"))
        losses.append(_step(loss, optimizer, trainable))
        now, moment = step + 1, time.monotonic()
        if now % report_every == 0 or now in (1, steps):
            elapsed = moment - started
            mean = sum(losses) / len(losses)
            rate = (now - done) * config.batch_size / elapsed
            report(TrainingProgress(now, steps, mean, rate, (steps - now) * elapsed / (now - done)))
            losses = []
        if now < steps and (now % config.checkpoint_every == 0 or moment - saved > checkpoint_seconds):
            _save_checkpoint(output, settings, now, before + moment - started, adapted, optimizer)
            saved = time.monotonic()
    if config.strength < 1:
        adapted.restore(part_way(begun, adapted.state(), config.strength))
    adapted.save(output)
    seconds = before + time.monotonic() - started
    for leftover in ("README.md", _CHECKPOINT):
        (output / leftover).unlink(missing_ok=True)
    return Trained(output, steps, sum(p.numel() for p in trainable), mean, seconds)


def part_way(
    begun: Mapping[str, torch.Tensor], learned: Mapping[str, torch.Tensor], strength: float
) -> dict[str, torch.Tensor]:
    """Trained tensors a part of the way from where they began to where they ended. Of low-rank products only B goes
    part of the way, which takes B·A, and so the weights, exactly there."""
    return {
        name: end if "lora_A" in name else torch.lerp(begun[name].float(), end.float(), strength).to(end.dtype)
        for name, end in learned.items()
    }


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: a step's activations are mapped anew at every step otherwise, and zeroing those
    pages took a third of the time of a run (31 instead of 20 examples/s without it)."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # another C library: slower, nothing else
        return


def collate(features: Sequence[Feature], pad: int) -> dict[str, torch.Tensor]:
    """Pad features to one length: ``input_ids``, ``attention_mask`` [B, T]; positions [B]."""
    longest = max(len(f.input_ids) for f in features)
    return {
        "input_ids": torch.tensor([f.input_ids + [pad] * (longest - len(f.input_ids)) for f in features]),
        "attention_mask": torch.tensor([[1] * len(f.input_ids) + [0] * (longest - len(f.input_ids)) for f in features]),
        "start_positions": torch.tensor([f.start for f in features]),
        "end_positions": torch.tensor([f.end for f in features]),
    }


def _step(loss: torch.Tensor, optimizer: torch.optim.Optimizer, trainable: list[torch.nn.Parameter]) -> float:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trainable, 1.0)
    optimizer.step()
    return float(loss.detach())


def learning_rate_share(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear warm-up times the schedule, from 0 to 1."""
    warmup = max(1, min(config.warmup_steps, steps // 10))
    at, share = zip(*config.schedule, strict=True)
    return min(1.0, (step + 1) / warmup) * float(np.interp(step / steps, at, share))


def _epoch_batches(task: TrainingTask, config: TrainingConfig, epoch: int) -> list[list[int]]:
    """Batches of similar length in random order: shuffled, sorted within groups of 50 batches, shuffled again."""
    rng = random.Random(f"{config.seed}/epoch/{epoch}")
    order = list(range(len(task)))
    rng.shuffle(order)
    size, group = config.batch_size, config.batch_size * 50
    batches: list[list[int]] = []
    for begin in range(0, len(order), group):
        near = sorted(order[begin : begin + group], key=task.length)
        batches += list(_slices(near, size))
    rng.shuffle(batches)
    return batches


def _slices(items: list[int], size: int) -> Iterator[list[int]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _save_checkpoint(
    output: Path, settings: str, step: int, seconds: float, adapted: Adapted, optimizer: torch.optim.Optimizer
) -> None:
    temporary = output / (_CHECKPOINT + ".tmp")
    state = {
        "settings": settings,
        "step": step,
        "seconds": seconds,
        "adapter": adapted.state(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, temporary)
    os.replace(temporary, output / _CHECKPOINT)


def _resume(
    output: Path, settings: str, seed: int, adapted: Adapted, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Steps done and seconds spent by earlier processes."""
    path = output / _CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["settings"] != settings:
        raise InvalidTrainingData(
            f"{path} belongs to a run with other settings; choose another output folder or remove that file."
        )
    adapted.restore(state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    # Dropout draws follow from the step, so a resumed run differs from an unbroken one only in dropout masks.
    torch.manual_seed(seed + int(state["step"]))
    return int(state["step"]), float(state["seconds"])


def _settings(config: TrainingConfig, examples: int, start: Path | None) -> str:
    begun_with = sha256_of(start / ADAPTER_WEIGHTS) if start else None
    return json.dumps({**asdict(config), "examples": examples, "start": begun_with}, sort_keys=True)


def _load_weights(adapted: Adapted, folder: Path) -> None:
    try:
        unexpected = adapted.restore(load_file(folder / ADAPTER_WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InvalidTrainingData(f"{folder} holds no adapter of this shape to begin with: {error}") from error
    if unexpected:
        raise InvalidTrainingData(f"{folder} holds weights this adapter has no place for: {', '.join(unexpected)}")


def make_alterer(base: ReaderBase, questions: Sequence[Question]) -> QuestionAlterer:
    """An alterer that borrows from these questions and swaps words by the base's own embeddings."""
    texts = [question.question for question in questions]
    embeddings = base.model.get_input_embeddings().weight.detach().float().numpy()  # [V, d]
    return QuestionAlterer(texts, word_neighbours(texts, base.tokenizer, embeddings))
