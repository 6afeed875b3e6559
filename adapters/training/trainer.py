"""Supervised training of an adapter for the embedded encoder: LoRA on every linear layer and a QA head.

One loop for all uses: the reader itself (on the raw encoder), a tenant's adapter (on the reader's base), the reranker.
Deterministic for a seed, checkpointed and resumable; reports progress through a callback.
Knows models and examples; knows no service, no tenants.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.base_model import ReaderBase
from adapters.errors import InvalidTrainingData
from adapters.squad import Question
from adapters.training.alterations import QuestionAlterer, word_neighbours
from adapters.training.examples import ExampleSource, Feature

_CHECKPOINT = "checkpoint.pt"
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of one run. Shares are of the drawn examples; lengths are tokens.

    Attributes:
        schedule: the learning rate over the run: points (share of the steps, share of ``learning_rate``), joined by
            straight lines.
    """

    rank: int = 8
    alpha: int = 16
    target_modules: tuple[str, ...] = ("query", "key", "value", "dense")
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    schedule: tuple[tuple[float, float], ...] = ((0.0, 1.0), (1.0, 0.0))
    epochs: float = 5.0
    batch_size: int = 16
    max_length: int = 320
    lookalike_share: float = 0.0
    altered_share: float = 0.0
    hidden_dropout: float = 0.1
    lora_dropout: float = 0.0
    seed: int = 0
    checkpoint_every: int = 200


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """State after a step: mean loss since the last report, examples per second since the start."""

    step: int
    steps: int
    loss: float
    examples_per_second: float
    eta_seconds: float


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
) -> Path:
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
    return train_adapter(base, task, output, config, report=report, report_every=report_every)


def train_adapter(
    base: ReaderBase,
    task: TrainingTask,
    output: Path,
    config: TrainingConfig,
    *,
    start: Path | None = None,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    report_every: int = 25,
) -> Path:
    """Train an adapter on ``base`` and write it to ``output`` in peft's format.

    The base model's own weights are not changed, but LoRA layers are put into ``base.model``: use a model of its own.
    An interrupted run goes on from the checkpoint in ``output`` when called again with the same arguments.

    Args:
        start: the folder of an adapter of the same shape to begin with, instead of B = 0.

    Returns:
        The folder with ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        InvalidTrainingData: a checkpoint of other settings lies in ``output``, or the adapter in ``start`` has another
            shape.
    """
    _keep_freed_memory()
    torch.manual_seed(config.seed)
    model = _with_lora(base.model, config)
    if start is not None:
        _load_weights(model, start)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = math.ceil(len(task) / config.batch_size)
    steps = max(1, round(config.epochs * per_epoch))
    output.mkdir(parents=True, exist_ok=True)
    settings = _settings(config, len(task), start)
    done = _resume(output, settings, config.seed, model, optimizer)

    started, losses = time.monotonic(), []
    for step in range(done, steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0 or step == done:
            batches = _epoch_batches(task, config, epoch)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(step, steps, config)
        with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            loss = task.loss(model, batches[position], random.Random(f"{config.seed}/{step}"))
        losses.append(_step(loss, optimizer, trainable))
        now = step + 1
        if now % report_every == 0 or now in (1, steps):
            elapsed = time.monotonic() - started
            report(
                TrainingProgress(
                    now,
                    steps,
                    sum(losses) / len(losses),
                    (now - done) * config.batch_size / elapsed,
                    (steps - now) * elapsed / (now - done),
                )
            )
            losses = []
        if now % config.checkpoint_every == 0 and now < steps:
            _save_checkpoint(output, settings, now, model, optimizer)
    model.save_pretrained(str(output))
    for leftover in ("README.md", _CHECKPOINT):
        (output / leftover).unlink(missing_ok=True)
    return output


def _keep_freed_memory() -> None:
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


def _with_lora(model: Any, config: TrainingConfig) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.hidden_dropout
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    lora = LoraConfig(
        task_type=TaskType.QUESTION_ANS,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
    )
    adapted = get_peft_model(model, lora)
    adapted.train()
    return adapted


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


def _save_checkpoint(output: Path, settings: str, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
    temporary = output / (_CHECKPOINT + ".tmp")
    torch.save(
        {
            "settings": settings,
            "step": step,
            "adapter": get_peft_model_state_dict(model),
            "optimizer": optimizer.state_dict(),
        },
        temporary,
    )
    os.replace(temporary, output / _CHECKPOINT)


def _resume(output: Path, settings: str, seed: int, model: Any, optimizer: torch.optim.Optimizer) -> int:
    path = output / _CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != settings:
        raise InvalidTrainingData(
            f"{path} belongs to a run with other settings; choose another output folder or remove that file."
        )
    set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    # Dropout draws follow from the step, so a resumed run differs from an unbroken one only in dropout masks.
    torch.manual_seed(seed + int(state["step"]))
    return int(state["step"])


def _settings(config: TrainingConfig, examples: int, start: Path | None) -> str:
    begun_with = sha256_of(start / ADAPTER_WEIGHTS) if start else None
    return json.dumps({**asdict(config), "examples": examples, "start": begun_with}, sort_keys=True)


def _load_weights(model: Any, folder: Path) -> None:
    try:
        unexpected = set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS)).unexpected_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InvalidTrainingData(f"{folder} holds no adapter of this shape to begin with: {error}") from error
    if unexpected:
        raise InvalidTrainingData(f"{folder} holds weights this adapter has no place for: {', '.join(unexpected)}")


def make_alterer(base: ReaderBase, questions: Sequence[Question]) -> QuestionAlterer:
    """An alterer that borrows from these questions and swaps words by the base's own embeddings."""
    texts = [question.question for question in questions]
    embeddings = base.model.get_input_embeddings().weight.detach().float().numpy()  # [V, d]
    return QuestionAlterer(texts, word_neighbours(texts, base.tokenizer, embeddings))
