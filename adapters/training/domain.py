"""How a tenant's adapter is trained on the embedded reader. Knows question sets and folders; knows no service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.base_model import load_reader_base, reader_dtype
from adapters.squad import Question
from adapters.training.reader import name_the_base
from adapters.training.trainer import TrainingConfig, TrainingProgress, train_reader_adapter

# A few draws over look-alike paragraphs keep what the reader knows about abstaining.
DOMAIN_CONFIG = TrainingConfig(
    rank=8, alpha=16, learning_rate=1e-3, epochs=5, batch_size=8, warmup_steps=20, lookalike_share=0.05
)


def train_domain_adapter(
    questions: Sequence[Question],
    output: Path,
    config: TrainingConfig = DOMAIN_CONFIG,
    *,
    report: Callable[[TrainingProgress], None] = lambda _: None,
) -> Path:
    """Train an adapter on the reader's base and write it to ``output``, ready to be uploaded.

    Raises:
        InvalidTrainingData: see `train_reader_adapter`.
        ModelUnavailable: the reader's weights are missing.
    """
    base = load_reader_base(dtype=reader_dtype("auto"), attention="eager")
    train_reader_adapter(base, questions, output, config, report=report)
    name_the_base(output, base.adapter_base_name)
    return output
