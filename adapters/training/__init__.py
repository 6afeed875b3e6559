"""Training of adapters: examples, the loop, calibration. `app` uses the names listed here."""

from adapters.training.domain import train_domain_adapter
from adapters.training.reader import train_reader
from adapters.training.trainer import TrainingConfig, TrainingProgress

__all__ = ["TrainingConfig", "TrainingProgress", "train_domain_adapter", "train_reader"]
