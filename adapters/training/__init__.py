"""Training of adapters: examples, the loop, calibration. `app` uses the names listed here."""

from adapters.training.domain import train_domain_adapter
from adapters.training.reader import is_held_out, train_reader
from adapters.training.reranker import (
    HELD_OUT_QUESTIONS,
    NEGATIVES,
    TRAINING_QUESTIONS,
    RankingCase,
    RankingExample,
    train_reranker,
)
from adapters.training.trainer import TrainingConfig, TrainingProgress

__all__ = [
    "HELD_OUT_QUESTIONS",
    "NEGATIVES",
    "TRAINING_QUESTIONS",
    "RankingCase",
    "RankingExample",
    "TrainingConfig",
    "TrainingProgress",
    "is_held_out",
    "train_domain_adapter",
    "train_reader",
    "train_reranker",
]
