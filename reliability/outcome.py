"""What came of a row: how often something was tried, how often it did not hold, and what was measured."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

_SHOWN = 20


class NotPossible(Exception):
    """This machine does not let the row be run; the message says why."""


@dataclass
class Outcome:
    """Counted while a row runs.

    Attributes:
        figures: what was measured, by name.
        reasons: of the first failures, in words.
    """

    tried: int = 0
    failed: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def check(self, holds: object, reason: str) -> bool:
        """Count one thing that must hold; whether it did. The reason is shown at once where it did not."""
        self.tried += 1
        if not holds:
            self.failed += 1
            if len(self.reasons) < _SHOWN:
                self.reasons.append(reason)
                print(f"FAILED: {reason}", file=sys.stderr, flush=True)
        return bool(holds)

    def largest(self, name: str, value: float) -> None:
        """Keep the largest value seen under a name."""
        self.figures[name] = max(round(value, 3), self.figures.get(name, 0.0))
