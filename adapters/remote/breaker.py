"""A circuit breaker: after several failures in a row nothing is sent any more until the server has answered again.

Pure logic over outcomes (Nygard, Release It!); knows no network and no clock. Used from one thread, read from any.
"""

from __future__ import annotations


class CircuitBreaker:
    """Closed while the server answers; open, with a reason, once it has failed ``threshold`` times in a row.

    It is closed again by `succeeded`, which whoever asks the server in the background calls.
    """

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._failures = 0
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why nothing is sent now; None while it is closed."""
        return self._reason

    def failed(self, reason: str) -> None:
        """The server did not do its part."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._reason = reason

    def open(self, reason: str) -> None:
        """Send nothing from now on."""
        self._failures = self._threshold
        self._reason = reason

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._reason = None
