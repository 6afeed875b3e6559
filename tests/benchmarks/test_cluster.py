"""Faults on several hosts: what counts as lost, wrong and unavailable; and hosts that are cut off and cleaned away.

The whole measurement takes minutes: `make bench NAME=cluster`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from benchmarks.cluster.__main__ import result_of, table_of
from benchmarks.cluster.faults import FAULTS, cost_of
from benchmarks.cluster.load import Attempt, Operation, Told, Written, lost_of, outages, outcome_of, wrong_with
from benchmarks.cluster.network import Host, network, why_not

EXPECTED = Told("12 floors [1]", ("voice", 2), ("d1", "d2"), ("It has 12 floors.",))
OWN = frozenset({"d1", "d2", "d3"})
needs_hosts = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (EXPECTED, None),
        (replace(EXPECTED, documents=("d1", "theirs")), "another tenant"),
        (replace(EXPECTED, adapter=("voice", 1)), "answered on ('voice', 1)"),
        (replace(EXPECTED, adapter=None), "answered on None"),
        (replace(EXPECTED, answer="13 floors [1]"), "'13 floors"),
        (replace(EXPECTED, quotes=()), "instead of"),
    ],
)
def test_an_answer_is_wrong_when_anything_of_it_is_another_tenants_versions_or_wording(
    told: Told, said: str | None
) -> None:
    found = wrong_with(told, EXPECTED, OWN)
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("status", "text", "found", "said"),
    [
        ("ready", "new", True, None),
        ("ready", "old", True, None),  # a replacement that nobody answered for may have been made or not
        (None, None, False, "not there"),
        ("pending", "new", True, "pending"),
        ("failed", None, False, "failed"),
        ("ready", "half of it", True, "another"),
        ("ready", "new", False, "search"),
    ],
)
def test_a_document_is_lost_unless_it_is_there_whole_and_found(
    status: str | None, text: str | None, found: bool, said: str | None
) -> None:
    lost = lost_of(Written("d1", "word", ["old", "new"]), status, text, found)
    assert lost is None if said is None else said in str(lost)


def test_only_a_503_that_says_when_to_come_back_is_a_proper_failure() -> None:
    problem = {"code": "database_unavailable", "detail": "Gone."}
    proper = httpx.Response(503, json=problem, headers={"Retry-After": "2"})
    assert outcome_of(proper) == ("busy", "database_unavailable: Gone.")
    assert outcome_of(httpx.Response(503, json=problem))[0] == "other"
    assert outcome_of(httpx.Response(502, text="Bad gateway")) == ("other", "502 Bad gateway")
    assert outcome_of(httpx.Response(202, json={}))[0] == "answered"


def test_it_is_unavailable_from_a_failure_to_the_next_success_of_the_kind() -> None:
    questions = [
        Operation("question", 0.0, 1.0, done=True),
        Operation("question", 2.0, 3.0, done=False),
        Operation("question", 1.5, 4.0, done=True),  # began before the failure: says nothing
        Operation("question", 4.0, 6.0, done=True),
        Operation("question", 8.0, 9.0, done=False),
    ]
    assert outages(questions) == [(2.0, 6.0), (8.0, 9.0)]
    documents = [Operation("document", 5.0, 5.5, done=False), Operation("document", 6.5, 7.0, done=True)]
    assert outages([*questions, *documents]) == [(2.0, 7.0), (8.0, 9.0)]
    assert outages([]) == []


def test_what_a_fault_costs_is_counted_from_its_begin() -> None:
    attempts = [
        Attempt("question", 9.0, 9.5, "other", "500 before the fault"),
        Attempt("question", 10.0, 11.0, "unreachable", "ConnectError"),
        Attempt("question", 11.0, 13.0, "busy", "not_ready"),
        Attempt("question", 14.0, 14.5, "answered"),
    ]
    operations = [Operation("question", 10.0, 13.0, done=False), Operation("question", 14.0, 14.5, done=True)]
    cost = cost_of("kill -9 it", 10.0, 30.0, attempts, operations)
    assert (cost.requests, cost.counts["busy"], cost.counts["other"]) == (3, 1, 0)
    assert (cost.unavailable_s, cost.recovered_s, cost.whole_s) == (4.5, 3.0, 20.0)
    assert table_of([cost]).row_count == 1
    result = result_of([cost], ["one"], [], 7)
    assert [result[key] for key in ("faults", "lost", "wrong", "unavailable_s")] == [1, 1, 0, 4.5]


def test_every_host_is_cut_off_and_every_program_killed_once() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert sum("link of" in name for name in names) == 5
    assert sum("kill -9" in name for name in names) == 8
    assert 3 <= sum(fault.quick for fault in FAULTS) < len(FAULTS)


@pytest.mark.long
@needs_hosts
def test_a_host_is_reached_until_its_link_is_cut_and_again_when_it_is_mended() -> None:
    with network(["one", "other"]) as hosts:
        with served(hosts["one"]) as url:
            assert reaches(url)
            assert reaches(url, hosts["other"])
            hosts["one"].cut()
            assert not reaches(url)
            assert not reaches(url, hosts["other"])
            hosts["one"].mend()
            until(lambda: reaches(url))
        namespaces = [host.namespace for host in hosts.values()]
    assert not any(Path("/run/netns", name).exists() for name in namespaces)


@pytest.mark.long
@needs_hosts
def test_hosts_of_a_run_that_was_killed_are_gone_with_all_that_ran_on_them() -> None:
    code = (
        "import json, subprocess, time\n"
        "from benchmarks.cluster.network import network\n"
        "with network(['one']) as hosts:\n"
        "    inside = subprocess.Popen(hosts['one'].inside(['sleep', '600']))\n"
        "    print(json.dumps([hosts['one'].namespace, inside.pid]), flush=True)\n"
        "    time.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run.stdout is not None
    namespace, pid = json.loads(run.stdout.readline())
    assert Path("/run/netns", namespace).exists()
    run.send_signal(signal.SIGKILL)
    run.wait()
    until(lambda: not Path("/run/netns", namespace).exists())
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_where_hosts_cannot_be_made_one_sentence_says_why(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}  # where there is no `ip`
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.cluster"], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "iproute2" in ran.stderr or "root" in ran.stderr or "Linux" in ran.stderr
    assert "Traceback" not in ran.stderr


@contextmanager
def served(host: Host) -> Iterator[str]:
    """A web server on a host, for the time of the block: its address."""
    command = [sys.executable, "-m", "http.server", "8000", "--bind", host.address]
    process = subprocess.Popen(host.inside(command), stderr=subprocess.DEVNULL, cwd=Path(__file__).parent)
    url = f"http://{host.address}:8000"
    try:
        until(lambda: reaches(url))
        yield url
    finally:
        process.kill()
        process.wait()


def reaches(url: str, host: Host | None = None) -> bool:
    code = f"import urllib.request as r; r.build_opener(r.ProxyHandler({{}})).open('{url}', timeout=1)"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(host.inside(command) if host else command, capture_output=True, check=False)
    return ran.returncode == 0


def until(holds: Callable[[], bool], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.1)
