"""Faults on several hosts: `make bench NAME=cluster`.

Five hosts on this machine, network namespaces joined by one bridge: two API replicas, their PostgreSQL, and a Ray of
two nodes with a copy of a language model on each. Clients of two tenants ask on the versions of their own adapters and
write documents all the time, while each process is killed in turn with `kill -9`, PostgreSQL is restarted, and each
host's link is cut for ten seconds. Every answer is held against the one that was given before the first fault; at the
end every acknowledged document is looked for through both replicas.

`lost`: acknowledged documents that a replica does not have as they were sent, or does not find; `wrong`: answers with
another tenant's passages, on another version, or in other words than before; `other`: failures that were no 503 with
Retry-After; `unavailable_s`: seconds, of all faults together, in which questions or documents were wanted and neither
replica took any. A client goes on to the other replica where one gives no response at all (`unreachable`) or 503.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.cluster.faults import FAULTS, Cost, suffer
from benchmarks.cluster.hosts import MODEL, Cluster, NotWhole, cluster
from benchmarks.cluster.load import Load, Tenant, Unprepared, fine, look_for, prepare
from benchmarks.cluster.network import NoNetwork

_TENANTS = ("amber", "birch")
_CALM_SECONDS = 5.0
_STRENGTH = 0.2  # of an adapter: it answers in words of its own
_SHOWN = 10


def table_of(costs: Sequence[Cost]) -> Table:
    """What each fault cost."""
    table = Table(title="faults under load, five hosts on one machine", title_justify="left")
    table.add_column("fault")
    for name in ("requests", "answered", "503", "unreachable", "other", "unavailable s", "recovered s", "whole s"):
        table.add_column(name, justify="right")
    for cost in costs:
        counts = [cost.counts[outcome] for outcome in ("answered", "busy", "unreachable", "other")]
        seconds = (cost.unavailable_s, cost.recovered_s, cost.whole_s)
        table.add_row(cost.fault, str(cost.requests), *map(str, counts), *(f"{each:.1f}" for each in seconds))
    return table


def result_of(costs: Sequence[Cost], lost: Sequence[str], wrong: Sequence[str], written: int) -> dict[str, object]:
    """The last line."""
    return {
        "faults": len(costs),
        "lost": len(lost),
        "wrong": len(wrong),
        "unavailable_s": round(sum(cost.unavailable_s for cost in costs), 1),
        "other": sum(cost.counts["other"] for cost in costs),
        "requests": sum(cost.requests for cost in costs),
        "documents": written,
        "slowest_recovery_s": round(max((cost.recovered_s for cost in costs), default=0.0), 1),
    }


def run(running: Cluster, names: Sequence[str] | None, quick: bool) -> tuple[list[Cost], list[str], Load, int]:
    """All faults on a cluster: what they cost, what is lost, the load with what was wrong, and documents written."""
    # Here and not above: the model library takes seconds, and where no hosts can be made the reason comes first.
    from benchmarks.language_models import ALL_LINEAR, save_adapter

    tenants: list[Tenant] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorebase-adapters-")))
        adapters = [
            save_adapter(MODEL, folder / str(n), seed=n, rank=8, targets=ALL_LINEAR, strength=_STRENGTH)
            for n in range(2 * len(_TENANTS))
        ]

        def client(url: str, key: str) -> httpx.Client:
            headers = {"Authorization": f"Bearer {key}"}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=120.0, trust_env=False))

        admin = client(running.urls[0], running.admin_key)
        clients: dict[str, list[httpx.Client]] = {}
        for number, name in enumerate(_TENANTS):
            made = fine(admin.post("/tenants", json={"name": name}))
            tenant = Tenant(name, made["api_key"])
            clients[name] = [client(url, tenant.key) for url in running.urls]
            prepare(tenant, clients[name], adapters[2 * number : 2 * number + 2], seed=number + 1)
            tenants.append(tenant)
        load = Load(running.urls, tenants)
        load.start()
        time.sleep(_CALM_SECONDS)
        costs = []
        for fault in FAULTS:
            if fault.quick or not quick if names is None else fault.name in names:
                costs.append(suffer(fault, running, load))
                print(_line(costs[-1]), file=sys.stderr, flush=True)
        load.stop()
        looked = [(tenant, one) for tenant in tenants for one in clients[tenant.name]]
        with ThreadPoolExecutor(len(looked)) as pool:
            lost = [each for found in pool.map(lambda one: look_for(*one), looked) for each in found]
    return costs, lost, load, sum(len(tenant.written) for tenant in tenants)


def _line(cost: Cost) -> str:
    told = f"{cost.fault}: {dict(cost.counts)}, unavailable {cost.unavailable_s:.1f} s, whole {cost.whole_s:.1f} s"
    return "\n  ".join([told, *(f"{n} × {outcome}: {said}" for (outcome, said), n in cost.said.most_common(_SHOWN))])


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.split("\n\n")[1])
    parser.add_argument("--quick", action="store_true", help="some of the faults")
    parser.add_argument("--fault", action="append", metavar="NAME", help="only this one; may be given again")
    parser.add_argument("--list", action="store_true", help="say which faults there are")
    given = parser.parse_args()
    if given.list:
        print("\n".join(fault.name for fault in FAULTS))
        return
    if unknown := set(given.fault or ()) - {fault.name for fault in FAULTS}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}. --list says which there are.")
    try:
        with cluster() as running:
            costs, lost, load, written = run(running, given.fault, given.quick)
    except (NoNetwork, NotWhole, Unprepared) as error:
        sys.exit(str(error))
    except ImportError as error:
        sys.exit(f"{error}. Install what this needs: pip install 'lorebase[postgres,ray]' pgserver.")
    Console(width=150).print(table_of(costs))
    for title, problems in (("lost", lost), ("wrong", load.wrong)):
        for problem in problems[:_SHOWN]:
            print(f"{title}: {problem}")
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({**result_of(costs, lost, load.wrong, written), **machine}))


if __name__ == "__main__":
    main()
