"""The processes that serve the same rows, as one of them sees them: the seam between working alone and with others.

What a tenant has to be done lies in queues, and a queue is worked off by one process at a time: it takes a lease, and
gives it back. Knows queues and leases as ideas; where there may be several processes is `app.database_replicas`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Literal, Protocol

Queue = Literal["documents", "tasks", "evaluations", "retraining"]
QUEUES: Final[tuple[Queue, ...]] = ("documents", "tasks", "evaluations")
"""Those in which jobs wait."""
Changed = Literal["tenants", "policy", "adapter_registry", "everything"]


class Replicas(Protocol):
    """The processes that serve the same rows."""

    @property
    def id(self) -> str | None:
        """This process among them; None: it is the only one there can be."""

    def start(self, changed: Callable[[Changed, str], None], waiting: Callable[[Queue, str], None]) -> None:
        """Begin to hear of the others.

        Args:
            changed: called, one call at a time, with what any process has changed of a tenant: its row or limits
                (also when it is gone), its policy, its adapters; ``everything`` (of no tenant): changes may have been
                missed.
            waiting: called, more than once, with a queue of a tenant where something waits that no process does.
        """

    def take(self, tenant_id: str, queue: Queue) -> bool:
        """Have a tenant's queue for this process, from now on or still; false: another process has it.

        Raises:
            DatabaseUnavailable
        """

    def holds(self, tenant_id: str, queue: Queue) -> bool:
        """Whether a queue that was taken is still this process's. Cheap: ask it often."""

    def only_while_held(self, tenant_id: str, queue: Queue) -> AbstractContextManager[None]:
        """Within the block nothing is written once the queue is another process's: LeaseLost is raised instead."""

    def give_back(self, tenant_id: str, queue: Queue) -> None:
        """Let others have a queue; nothing happens when it is not held. What fails is logged: it lapses by itself."""

    def show(self, tenant_id: str, queue: Queue, activity: str | None) -> None:
        """Let the others know, within a second, what is done for a queue that is held."""

    def shown(self, tenant_id: str, queue: Queue) -> str | None:
        """What another process lets know of a queue; None: nothing, or the queue is this process's."""

    def is_live(self, replica: str) -> bool:
        """Whether another process is there: it was heard of within seconds."""

    def are_others(self) -> bool:
        """Whether there are other processes now."""

    def failure(self) -> str | None:
        """Why this process may not work now; None when it may."""

    def stop(self) -> None:
        """Give everything back, and be no more one of them."""


class OneProcess:
    """No other process can serve the rows."""

    id = None

    def start(self, changed: Callable[[Changed, str], None], waiting: Callable[[Queue, str], None]) -> None:
        """See `Replicas`: there is nobody to hear of."""

    def take(self, tenant_id: str, queue: Queue) -> bool:
        """See `Replicas`."""
        return True

    def holds(self, tenant_id: str, queue: Queue) -> bool:
        """See `Replicas`."""
        return True

    def only_while_held(self, tenant_id: str, queue: Queue) -> AbstractContextManager[None]:
        """See `Replicas`."""
        return nullcontext()

    def give_back(self, tenant_id: str, queue: Queue) -> None:
        """See `Replicas`."""

    def show(self, tenant_id: str, queue: Queue, activity: str | None) -> None:
        """See `Replicas`."""

    def shown(self, tenant_id: str, queue: Queue) -> str | None:
        """See `Replicas`."""
        return None

    def is_live(self, replica: str) -> bool:
        """See `Replicas`."""
        return False

    def are_others(self) -> bool:
        """See `Replicas`."""
        return False

    def failure(self) -> str | None:
        """See `Replicas`."""
        return None

    def stop(self) -> None:
        """See `Replicas`."""


ONE_PROCESS: Final = OneProcess()


@contextmanager
def taken(replicas: Replicas, tenant_id: str, queue: Queue) -> Iterator[bool]:
    """A block in which a queue is this process's: true; or, while it is another one's, false."""
    ours = replicas.take(tenant_id, queue)
    try:
        yield ours
    finally:
        if ours:
            replicas.give_back(tenant_id, queue)
