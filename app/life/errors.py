"""Errors of the adapters' life.

LifeError
├── GateRequired      the tenant's policy lets only versions serve that have passed the gate
└── VersionTainted    the tenant's policy blocks versions that were trained on documents erased since
"""

from __future__ import annotations

from typing import Any


class LifeError(Exception):
    """Root of every error this package raises for a client to see."""


class GateRequired(LifeError):
    """The tenant's policy lets only versions serve that have passed the gate. ``advice``: what the gate advised when it
    held this one back; None where it was never asked."""

    def __init__(self, message: str, advice: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.advice = advice


class VersionTainted(LifeError):
    """The tenant's policy blocks versions that were trained on documents erased since."""
