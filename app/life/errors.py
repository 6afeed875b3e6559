"""Errors of the adapters' life.

LifeError
└── GateRequired    the tenant's policy lets only versions serve that have passed the gate
"""

from __future__ import annotations


class LifeError(Exception):
    """Root of every error this package raises for a client to see."""


class GateRequired(LifeError):
    """The tenant's policy lets only versions serve that have passed the gate."""
