"""A cluster of machines that answer questions, simulated event by event.

Questions come at random (Poisson), from tenants of which a few ask most (Zipf). A machine answers so many at once and
keeps the indexes of the tenants that asked last, as many as its memory holds; the first question of another tenant
waits until its index is opened. Pure: knows no server, file or clock, and its random choices follow from the seed.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

Routing = Literal["by tenant", "by turns"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is simulated.

    Attributes:
        places: questions that a machine answers at once.
        service_seconds: one answer in one place, on average.
        spread: ``even``: every answer takes as long; ``exponential``: as queueing theory assumes.
        resident: tenants whose indexes a machine holds.
        open_seconds: to open one tenant's index, in the place of its question.
        routing: ``by tenant``: each tenant has its machine, and goes to another one only while as many questions wait
            there as it has places; ``by turns``: one machine after the other.
    """

    machines: int
    places: int
    service_seconds: float
    resident: int
    open_seconds: float
    tenants: int
    routing: Routing = "by tenant"
    spread: Literal["even", "exponential"] = "even"
    zipf: float = 1.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of the questions.

    Attributes:
        waited: seconds each of them waited for a place, in order of their coming.
        answered: seconds from coming to answer, likewise.
        opened: share of the questions for which an index had to be opened.
        busy: share of all places' time that was used.
    """

    waited: Sequence[float]
    answered: Sequence[float]
    opened: float
    busy: float

    def answered_within(self, share: float) -> float:
        """The seconds within which this share of the questions was answered."""
        ordered = sorted(self.answered)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(eq=False)
class _Machine:
    free: int
    waiting: deque[tuple[int, int]] = field(default_factory=deque)  # question, tenant
    resident: OrderedDict[int, None] = field(default_factory=OrderedDict)  # least recently asked first


def simulate(cluster: Cluster, per_second: float, questions: int, seed: int = 0) -> Observed:
    """Let so many questions come, and wait for all of their answers. The first tenth warms the machines up, and is not
    told of."""
    chance = random.Random(seed)
    coming = list(accumulate(chance.expovariate(per_second) for _ in range(questions)))
    weights = list(accumulate(1 / rank**cluster.zipf for rank in range(1, cluster.tenants + 1)))
    asking = chance.choices(range(cluster.tenants), cum_weights=weights, k=questions)
    home = [chance.randrange(cluster.machines) for _ in range(cluster.tenants)]
    machines = [_Machine(cluster.places) for _ in range(cluster.machines)]
    ends: list[tuple[float, int]] = []  # when a place becomes free, and on which machine
    began, ended = [0.0] * questions, [0.0] * questions
    first, opened, used = questions // 10, 0, 0.0

    def begin(at: float, number: int, question: int, tenant: int) -> None:
        nonlocal opened, used
        machine = machines[number]
        seconds = cluster.service_seconds
        if cluster.spread == "exponential":
            seconds = chance.expovariate(1 / seconds)
        if tenant not in machine.resident:
            seconds += cluster.open_seconds
            opened += question >= first
            if len(machine.resident) >= cluster.resident:
                machine.resident.popitem(last=False)
        machine.resident[tenant] = None
        machine.resident.move_to_end(tenant)
        machine.free -= 1
        used += seconds
        began[question], ended[question] = at, at + seconds
        heapq.heappush(ends, (at + seconds, number))

    def free_until(moment: float) -> None:
        while ends and ends[0][0] <= moment:
            at, number = heapq.heappop(ends)
            machines[number].free += 1
            if machines[number].waiting:
                begin(at, number, *machines[number].waiting.popleft())

    for question, (at, tenant) in enumerate(zip(coming, asking, strict=True)):
        free_until(at)
        number = home[tenant] if cluster.routing == "by tenant" else question % cluster.machines
        if cluster.routing == "by tenant" and len(machines[number].waiting) >= cluster.places:
            number = min(range(cluster.machines), key=lambda n: len(machines[n].waiting) - machines[n].free)
        if machines[number].free:
            begin(at, number, question, tenant)
        else:
            machines[number].waiting.append((question, tenant))
    free_until(float("inf"))
    counted = range(first, questions)
    return Observed(
        [began[q] - coming[q] for q in counted],
        [ended[q] - coming[q] for q in counted],
        opened / len(counted),
        used / (max(ended) * cluster.machines * cluster.places),
    )


def machines_needed(cluster: Cluster, per_second: float, within_seconds: float, questions: int, seed: int = 0) -> int:
    """The fewest machines with which 95 of 100 questions are answered in time, and which keep up with what comes.

    Args:
        cluster: its number of machines is not looked at.
    """
    enough = max(1, int(per_second * cluster.service_seconds / cluster.places))
    while True:
        observed = simulate(replace(cluster, machines=enough), per_second, questions, seed)
        if observed.answered_within(0.95) <= within_seconds:
            return enough
        enough += max(1, enough // 20)
