"""Errors of the adapters' life.

LifeError
├── GateRequired      the tenant's policy lets only versions serve that have passed the gate
└── VersionTainted    the tenant's policy blocks versions that were trained on documents erased since
"""

from __future__ import annotations


class LifeError(Exception):
    """Root of every error this package raises for a client to see."""


class GateRequired(LifeError):
    """The tenant's policy lets only versions serve that have passed the gate."""


class VersionTainted(LifeError):
    """The tenant's policy blocks versions that were trained on documents erased since."""
