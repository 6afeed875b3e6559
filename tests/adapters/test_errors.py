"""Errors of the package, which cross the borders of processes."""

from __future__ import annotations

import pickle

import pytest

from adapters.errors import AdapterError, InvalidAdapter, QueueFull, TooManyVersions, UnknownAdapter


@pytest.mark.parametrize(
    "error",
    [
        InvalidAdapter("rank", "too wide"),
        QueueFull("full", 3.0),
        QueueFull("full"),
        UnknownAdapter("none", ["a"]),
        TooManyVersions(3, 4),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: AdapterError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
