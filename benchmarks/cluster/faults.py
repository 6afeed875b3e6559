"""The faults, one after another, and what each costs the clients.

Knows which program is killed and which link is cut; knows no HTTP.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cluster.hosts import API, DATABASE, HEAD, WORKER, Cluster
from benchmarks.cluster.load import Attempt, Load, Operation, outages

CUT_SECONDS = 10.0
_WHOLE_SECONDS = 240.0
_CALM_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong: ``do`` begins it, and ends it where it does not end by itself."""

    name: str
    do: Callable[[Cluster], None]
    quick: bool = False


def _killed(program: str, *, quick: bool = False) -> Fault:
    return Fault(f"kill -9 {program}", lambda cluster: cluster.kill(program), quick)


def _cut(host: str, *, quick: bool = False) -> Fault:
    def do(cluster: Cluster) -> None:
        cluster.hosts[host].cut()
        time.sleep(CUT_SECONDS)
        cluster.hosts[host].mend()

    return Fault(f"link of {host} cut, {CUT_SECONDS:.0f} s", do, quick)


FAULTS: Sequence[Fault] = (
    _killed(API[0], quick=True),
    _killed(API[1]),
    _killed("PostgreSQL", quick=True),
    Fault("restart PostgreSQL", lambda cluster: cluster.programs["PostgreSQL"].signal(signal.SIGINT)),
    _killed("model server"),
    Fault("kill -9 copy of the model on model 1", lambda cluster: cluster.kill_copy(HEAD)),
    Fault("kill -9 copy of the model on model 2", lambda cluster: cluster.kill_copy(WORKER), quick=True),
    Fault("kill -9 Ray's node on model 2", lambda cluster: cluster.kill_named(WORKER, "raylet")),
    Fault("kill -9 Ray's head on model 1", lambda cluster: cluster.kill_named(HEAD, "gcs_server")),
    _cut(API[0], quick=True),
    _cut(API[1]),
    _cut(DATABASE, quick=True),
    _cut(HEAD),
    _cut(WORKER),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fault cost.

    Attributes:
        counts: attempts by how they ended.
        unavailable_s: seconds in which questions or documents were wanted and none was taken by any replica.
        recovered_s: from the fault to the end of the last request that failed; 0 where none did.
        whole_s: from the fault until all programs were there again.
        said: what the requests that failed were told, and how many of them.
    """

    fault: str
    counts: Counter[str]
    unavailable_s: float
    recovered_s: float
    whole_s: float
    said: Counter[tuple[str, str]]

    @property
    def requests(self) -> int:
        return self.counts.total()


def cost_of(
    fault: str, began: float, whole: float, attempts: Sequence[Attempt], operations: Sequence[Operation]
) -> Cost:
    """What a fault cost, by what ended since it began."""
    attempts = [each for each in attempts if each.ended >= began]
    failed = [each.ended for each in attempts if each.outcome != "answered"]
    spans = outages([each for each in operations if each.ended >= began])
    return Cost(
        fault,
        Counter(each.outcome for each in attempts),
        sum(end - max(begin, began) for begin, end in spans),
        max(failed, default=began) - began,
        whole - began,
        Counter((each.outcome, each.detail) for each in attempts if each.outcome != "answered"),
    )


def suffer(fault: Fault, cluster: Cluster, load: Load) -> Cost:
    """Let a fault happen under load, wait until all is there again and well for a while; what it cost.

    Raises:
        NotWhole: it did not come back.
    """
    first_attempt, first_operation, began = len(load.attempts), len(load.operations), time.monotonic()
    fault.do(cluster)
    time.sleep(0.5)  # a program is still there for a moment after its death
    cluster.wait_until(cluster.whole, _WHOLE_SECONDS)
    whole = time.monotonic()
    calm = whole
    while time.monotonic() < calm + _CALM_SECONDS and time.monotonic() < whole + _WHOLE_SECONDS:
        time.sleep(0.2)
        failed = [each.ended for each in load.attempts[first_attempt:] if each.outcome != "answered"]
        calm = max([whole, *failed])
    return cost_of(fault.name, began, whole, load.attempts[first_attempt:], load.operations[first_operation:])
