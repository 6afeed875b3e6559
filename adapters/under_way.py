"""What every row under way has, whatever answers it: a receiver that is told of events until the row is over.

The engine's thread and whoever cancels meet at one lock, so that nothing is delivered once a cancellation has returned.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace

from adapters.engine import Deliver, Done, Event, Failed, Row

_log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class UnderWay:
    """A row between its submission and its end.

    Attributes:
        over: it was answered, failed or cancelled: nobody listens any more.
        submitted, began: when, on the clock of `time.perf_counter`; ``began`` is None while the row waits.
    """

    row: Row
    deliver: Deliver
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    over: bool = False
    submitted: float = field(default_factory=time.perf_counter)
    began: float | None = None

    def begin(self) -> None:
        """Note that the engine works on the row from now on."""
        if self.began is None:
            self.began = time.perf_counter()

    def cancel(self) -> None:
        """Deliver nothing more. Waits for a delivery that is under way."""
        with self.lock:
            self.over = True

    def tell(self, event: Event) -> None:
        """Deliver, unless the row is over. Done and Failed end the row, and so does a receiver that raises: its fault
        must not reach the rows that share its batch."""
        with self.lock:
            if self.over:
                return
            self.over = isinstance(event, Done | Failed)
            if isinstance(event, Done) and self.began is not None:
                event = replace(event, queued_seconds=self.began - self.submitted)
            try:
                self.deliver(event)
            except Exception:
                self.over = True
                _log.exception("the receiver of a row's events raised; the row is dropped")
