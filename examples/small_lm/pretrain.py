"""Pretrains the small language model and writes it as a Hugging Face folder.

    python -m examples.small_lm.pretrain [--output build/small_lm] [--steps N] [--seed N]

Each step's lessons are drawn afresh from the seed and the step's number, so nothing is seen twice, and a run that was
interrupted goes on from its last checkpoint as if it had not been. Knows the loop; knows no wording and no tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaForCausalLM

from adapters.training.trainer import keep_freed_memory
from examples.small_lm.lessons import Batch, LessonEncoder, logits_at
from examples.small_lm.network import make_model
from examples.small_lm.scoring import Score, score
from examples.small_lm.tokenizer import make_tokenizer
from examples.small_lm.world import Difficulty, draw_lesson

CHECKPOINT = "checkpoint.pt"
STEPS = 900
# Share of the steps from which each difficulty holds: one passage first, then several in all wordings.
CURRICULUM = (
    (0.00, Difficulty(sources=1, facts=3, wordings=1, absent=0.1)),
    (0.08, Difficulty(sources=2, facts=3, wordings=2, absent=0.15)),
    (0.18, Difficulty(sources=4, facts=3, wordings=3)),
    (0.35, Difficulty(sources=6, facts=4, wordings=4)),
)
_SENTENCES = 0.15  # of the answers, by chance
_TEXT_WEIGHT = 0.1  # of the passages' own words beside the answers'
_TEXT_SAMPLED = 6  # each so many of them
_WARMUP = 50
_LEAST_SHARE = 0.05  # of the learning rate, at the end
_REPORT_EVERY = 25


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is set to.

    Attributes:
        tokens: of one step, about.
        stop_after: steps after which the process ends with a checkpoint, as if it had been interrupted; None: never.
    """

    steps: int = STEPS
    seed: int = 0
    tokens: int = 3000
    learning_rate: float = 2e-3
    matrix_rate: float = 4e-3
    checkpoint_seconds: float = 30.0


def pretrain(
    output: Path, settings: Settings, *, report: Callable[[str], None] = print, stop_after: int | None = None
) -> list[float]:
    """Train from nothing, or from the checkpoint in ``output``, and write the model there.

    Args:
        stop_after: end with a checkpoint after this step, as an interruption would.

    Returns:
        The loss of the answers, mean of each `_REPORT_EVERY` steps of this process.

    Raises:
        ValueError: the checkpoint belongs to a run with other settings.
    """
    keep_freed_memory()
    tokenizer = make_tokenizer()
    encoder = LessonEncoder(tokenizer)
    model = make_model(tokenizer, settings.seed).train()
    optimizers = _optimizers(model, settings)
    output.mkdir(parents=True, exist_ok=True)
    done, before = _resume(output, settings, model, optimizers)
    began = saved = time.monotonic()
    curve: list[float] = []
    losses: list[float] = []
    for step in range(done, settings.steps):
        batch = encoder.batch(_draw(settings, step))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _rate_share(step, settings.steps)
        losses.append(_learn(model, batch, step, optimizers))
        now = step + 1
        if now % _REPORT_EVERY == 0 or now == settings.steps:
            curve.append(sum(losses) / len(losses))
            losses = []
            seconds = time.monotonic() - began
            left = seconds / (now - done) * (settings.steps - now)
            report(f"step {now}/{settings.steps}  loss {curve[-1]:.3f}  {seconds:.0f} s, {left:.0f} s left")
        if now == stop_after or time.monotonic() - saved > settings.checkpoint_seconds:
            _save_checkpoint(output, settings, now, before + time.monotonic() - began, model, optimizers)
            saved = time.monotonic()
        if now == stop_after:
            return curve
    _write(output, model, tokenizer, settings, before + time.monotonic() - began)
    return curve


def difficulty_at(share: float) -> Difficulty:
    """What is asked at a share of the run."""
    return [difficulty for begin, difficulty in CURRICULUM if share >= begin][-1]


def _draw(settings: Settings, step: int) -> list[Any]:
    """The lessons of a step, all with as many sources, so that little is padded."""
    rng = random.Random(f"{settings.seed}/{step}")
    difficulty = difficulty_at(step / settings.steps)
    count = rng.randint(1, difficulty.sources)
    difficulty = replace(difficulty, sources=count, fewest_sources=count, sentences=_SENTENCES)
    tokens = 8 + count * (6 + 5 * difficulty.facts) + 18 * difficulty.asked  # of one lesson, about
    return [draw_lesson(rng, difficulty) for _ in range(max(2, settings.tokens // tokens))]


def _learn(model: Any, batch: Batch, step: int, optimizers: list[torch.optim.Optimizer]) -> float:
    """One step; the mean loss of the answers' tokens."""
    sampled = (torch.arange(batch.ids.shape[1]) + step) % _TEXT_SAMPLED == 0  # [T]
    learned = (batch.answers | ((batch.lanes == 0) & sampled)) & (batch.positions > 0)  # [B, T]
    logits = logits_at(model, batch, learned.roll(-1, 1))
    each = F.cross_entropy(logits, batch.ids[learned], reduction="none")  # [tokens]
    is_answer = batch.answers[learned]
    answers = each[is_answer].mean()
    loss = answers + _TEXT_WEIGHT * each[~is_answer].mean()
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return float(answers.detach())


def _optimizers(model: Any, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate_share(step: int, steps: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / _WARMUP) * (_LEAST_SHARE + (1 - _LEAST_SHARE) * cosine)


def _save_checkpoint(
    output: Path, settings: Settings, step: int, seconds: float, model: Any, optimizers: list[torch.optim.Optimizer]
) -> None:
    temporary = output / (CHECKPOINT + ".tmp")
    state = {
        "settings": _run_of(settings),
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    torch.save(state, temporary)
    os.replace(temporary, output / CHECKPOINT)


def _resume(output: Path, settings: Settings, model: Any, optimizers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Steps done and seconds spent before."""
    path = output / CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["settings"] != _run_of(settings):
        raise ValueError(f"{path} belongs to a run with other settings; remove it or choose another --output.")
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"]), float(state["seconds"])


def _run_of(settings: Settings) -> str:
    """What must be the same for a run to go on."""
    return json.dumps({name: value for name, value in asdict(settings).items() if name != "checkpoint_seconds"})


def _write(output: Path, model: Any, tokenizer: Any, settings: Settings, seconds: float) -> None:
    """The model as a Hugging Face folder in bfloat16; the checkpoint goes last."""
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    facts = {"seed": settings.seed, "steps": settings.steps, "seconds": round(seconds)}
    (output / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (output / CHECKPOINT).unlink(missing_ok=True)


def main() -> None:
    """Read the command line, train, and print the score as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/small_lm"), help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pretrain(given.output, Settings(steps=given.steps, seed=given.seed))
    scores = {f"{count} passages": asdict(scored(given.output, count)) for count in (1, 3, 5)}
    print(json.dumps(scores))


def scored(folder: Path, sources: int, *, lessons: int = 40) -> Score:
    """How well a saved model answers over so many passages about held-out buildings."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    encoder = LessonEncoder(AutoTokenizer.from_pretrained(folder))
    return score(model, encoder, Difficulty(sources=sources), lessons=lessons)


if __name__ == "__main__":
    main()
