"""The options of a training, which `lorebase train job` and `lorebase train adapter` share.

Knows their names, limits and words; what they do is the training's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from adapters.training import METHODS
from app.terminal.signatures import passing_for
from app.training_schemas import MAX_RANK


def _option(kind: Any, least: float | None = None, most: float | None = None, text: str = "") -> Any:
    return Annotated[kind | None, typer.Option(min=least, max=most, help=text, rich_help_panel="Training")]


_OPTIONS: dict[str, Any] = {
    "method": _option(str, text=f"One of {', '.join(METHODS)}; lora unless given."),
    "rank": _option(int, 1, MAX_RANK, "Of the LoRA factors."),
    "alpha": _option(int, 1, 4 * MAX_RANK, "Weight of the LoRA factors; twice the rank unless given."),
    "targets": _option(str, text="Layers that LoRA adapts: qv, attention or all."),
    "virtual_tokens": _option(int, 1, 256, "Learned tokens of prompt, prefix, p_tuning and llama_adapter."),
    "width": _option(int, 1, 1024, "Of the bottleneck."),
    "epochs": _option(float, 0.01, 1000.0, "Passes over the data."),
    "learning_rate": _option(float, 1e-9, 1.0, "At its highest."),
    "batch_size": _option(int, 1, 256, "Examples in a step."),
    "max_length": _option(int, 32, 8192, "Tokens of an example at most."),
    "beta": _option(float, 1e-6, 10.0, "How closely dpo and kto keep to the base."),
    "sft_weight": _option(float, 0.0, 10.0, "Of the better answers' own loss, which is added to dpo's; 0: dpo alone."),
    "strength": _option(float, 0.01, 1.0, "How far of the way to what was learned; less keeps more of the base."),
    "seed": _option(int, 0, 2**31 - 1, "Of everything drawn."),
}


def tuned(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a training: its parameter ``tuning`` gets those that were given, by name."""

    def command(*positional: Any, **given: Any) -> None:
        chosen = {name: given.pop(name, None) for name in _OPTIONS}
        function(*positional, tuning={name: value for name, value in chosen.items() if value is not None}, **given)

    own = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.name != "tuning"]
    return passing_for(function, command, own, {name: (kind, None) for name, kind in _OPTIONS.items()})
