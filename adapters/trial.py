"""A version on trial beside the active one, and what happened to an adapter: records that the registry keeps.

Knows shares and times; how a trial is judged is not known here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

TrialMode = Literal["canary", "shadow"]
EventKind = Literal[
    "promoted", "rolled_back", "trial_started", "trial_ended", "trial_rolled_back", "version_deleted", "tainted",
    "withdrawn", "retraining", "not_retrained",
]  # fmt: skip
MOST_EVENTS = 500


@dataclass(frozen=True)
class Trial:
    """A version on trial.

    Attributes:
        percent: share of the requests, above 0 and up to 100: answered by it (canary), or answered by it too, unseen
            (shadow).
    """

    version: int
    percent: float
    mode: TrialMode
    since: float

    def takes(self, key: str) -> bool:
        """Whether a request takes part: the same key always does or never does."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.since}\n{key}".encode()).digest()[:8], "big") / 2**64
        return drawn * 100 < self.percent


@dataclass(frozen=True)
class AdapterEvent:
    """Something that happened to an adapter. ``before``: the version that was active until then."""

    at: float
    kind: EventKind
    version: int
    before: int | None
    reason: str
