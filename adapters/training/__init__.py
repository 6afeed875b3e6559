"""Training of adapters: examples, methods, the loop, calibration. `app` uses the names listed here.

Names are loaded when first used, so that reading a data set costs no model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.training.data import (
        OBJECTIVES,
        Objective,
        TrainingExample,
        check_examples,
        dump_examples,
        find_answer,
        load_examples,
        parse_examples,
    )
    from adapters.training.process import TrainingBroke, TrainingFailed, TrainingProcess, TrainingSpec
    from adapters.training.reader import is_held_out, train_reader
    from adapters.training.reranker import (
        HELD_OUT_QUESTIONS,
        NEGATIVES,
        TRAINING_QUESTIONS,
        RankingCase,
        RankingExample,
        RankingFigures,
        train_reranker,
    )
    from adapters.training.run import Base, facts_of, train
    from adapters.training.settings import METHODS, Method, Targets, TrainingConfig, config_of, config_to_dict
    from adapters.training.trainer import Trained, TrainingProgress

_HOME = {
    "adapters.training.data": [
        "OBJECTIVES",
        "Objective", "TrainingExample", "check_examples", "dump_examples", "find_answer",
        "load_examples", "parse_examples",
    ],
    "adapters.training.process": ["TrainingBroke", "TrainingFailed", "TrainingProcess", "TrainingSpec"],
    "adapters.training.reader": ["is_held_out", "train_reader"],
    "adapters.training.reranker": [
        "HELD_OUT_QUESTIONS", "NEGATIVES", "TRAINING_QUESTIONS", "RankingCase", "RankingExample",
        "RankingFigures", "train_reranker",
    ],
    "adapters.training.run": ["Base", "facts_of", "train"],
    "adapters.training.settings": ["METHODS", "Method", "Targets", "TrainingConfig", "config_of", "config_to_dict"],
    "adapters.training.trainer": ["Trained", "TrainingProgress"],
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "HELD_OUT_QUESTIONS",
    "METHODS",
    "NEGATIVES",
    "OBJECTIVES",
    "TRAINING_QUESTIONS",
    "Base",
    "Method",
    "Objective",
    "RankingCase",
    "RankingExample",
    "RankingFigures",
    "Targets",
    "Trained",
    "TrainingBroke",
    "TrainingConfig",
    "TrainingExample",
    "TrainingFailed",
    "TrainingProcess",
    "TrainingProgress",
    "TrainingSpec",
    "check_examples",
    "config_of",
    "config_to_dict",
    "dump_examples",
    "facts_of",
    "find_answer",
    "is_held_out",
    "load_examples",
    "parse_examples",
    "train",
    "train_reader",
    "train_reranker",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)
