"""What typer reads of a command: its name, words and parameters, for functions that get options added."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def passing_for(
    function: Callable[..., None],
    command: Callable[..., None],
    own: Sequence[inspect.Parameter],
    added: Mapping[str, tuple[Any, Any]],
) -> Callable[..., None]:
    """``command``, which shows itself as ``function`` with the parameters of its ``own`` and those ``added``.

    Args:
        added: annotation and default by name.
    """
    parameters = list(own)
    for name, (kind, default) in added.items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default))
    command.__name__, command.__doc__, command.__module__ = function.__name__, function.__doc__, function.__module__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command
