"""The simulated cluster: right where theory knows the answer."""

from __future__ import annotations

from dataclasses import replace
from math import factorial

import pytest

from benchmarks.cluster_model import Cluster, machines_needed, simulate

CLUSTER = Cluster(
    machines=4, places=2, service_seconds=0.1, resident=50, open_seconds=0.05, tenants=1000, routing="by tenant"
)


def test_the_mean_wait_is_the_one_that_erlang_derived() -> None:
    places, service, per_second = 4, 0.1, 32.0
    one = replace(CLUSTER, machines=1, places=places, tenants=1, open_seconds=0.0, spread="exponential")
    observed = simulate(one, per_second, 150_000)
    offered = per_second * service
    all_busy = offered**places / factorial(places) * places / (places - offered)
    waits = all_busy / (sum(offered**k / factorial(k) for k in range(places)) + all_busy)
    expected = waits * service / (places - offered)
    assert sum(observed.waited) / len(observed.waited) == pytest.approx(expected, rel=0.1)
    assert observed.busy == pytest.approx(offered / places, rel=0.02)


def test_tenants_that_keep_their_machine_open_fewer_indexes() -> None:
    by_tenant = simulate(CLUSTER, 40, 20_000)
    by_turns = simulate(replace(CLUSTER, routing="by turns"), 40, 20_000)
    assert by_tenant.opened < by_turns.opened


def test_the_machines_needed_answer_in_time_and_a_third_fewer_do_not() -> None:
    needed = machines_needed(CLUSTER, 200, within_seconds=0.5, questions=20_000)
    assert simulate(replace(CLUSTER, machines=needed), 200, 20_000).answered_within(0.95) <= 0.5
    assert simulate(replace(CLUSTER, machines=needed * 2 // 3), 200, 20_000).answered_within(0.95) > 0.5
