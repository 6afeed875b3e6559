"""Hosts on one machine: network namespaces, each joined to one bridge by a pair of veth.

Knows iproute2 and names; knows nothing of what runs on a host. What is made here is named after the process that made
it, so what a killed run left behind is found by name, with every process in it, and removed. A watcher in a process of
its own does so as soon as its owner ends, however that ends.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "lbc"  # and the owner's pid in hexadecimal digits; interfaces have names of 15 characters at most
_NETS = ipaddress.IPv4Network("10.88.0.0/16")
_NAMESPACES = Path("/run/netns")
_END_SECONDS = 10.0


class NoNetwork(Exception):
    """Hosts cannot be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host: its name, its address, the namespace it is in, and the bridge's end of its link."""

    name: str
    address: str
    namespace: str
    link: str

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command as it runs on the host; the process keeps the pid that it is started with."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def cut(self) -> None:
        """Take the link away: what is sent is lost, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Bring the link back."""
        _ip("link", "set", self.link, "up")

    def pids(self) -> list[int]:
        """Every process on the host."""
        return _pids(self.namespace)


@contextmanager
def network(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts by name, which reach one another and this machine, and nothing else; removed at the end with all that runs
    on them.

    Raises:
        NoNetwork
    """
    if (reason := why_not()) is not None:
        raise NoNetwork(reason)
    for owner in _owners():
        if not Path(f"/proc/{int(owner.removeprefix(_PREFIX), 16)}").exists():
            remove(owner)
    owner = f"{_PREFIX}{os.getpid():x}"
    watcher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cluster.network", owner], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield _made(owner, names)
    finally:
        remove(owner)
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait()


def why_not() -> str | None:
    """Why no hosts can be made here; None when they can."""
    if sys.platform != "linux":
        return "Network namespaces are Linux's: run this on Linux."
    if shutil.which("ip") is None:
        return "There is no `ip` here: install iproute2."
    if os.geteuid() != 0:
        return "Making network namespaces needs root: run this as root, or inside a container that may make them."
    probe = f"{_PREFIX}{os.getpid():x}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except NoNetwork as error:
        return f"This machine lets nobody make network namespaces: {error}"
    return None


def remove(owner: str) -> None:
    """Remove every namespace, process and link of an owner's name; what is gone already is fine."""
    spaces = [path.name for path in _NAMESPACES.glob(f"{owner}-*")]
    deadline = time.monotonic() + _END_SECONDS
    while (alive := [pid for space in spaces for pid in _pids(space)]) and time.monotonic() < deadline:
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for space in spaces:
        with suppress(NoNetwork):
            _ip("netns", "delete", space)
    for link in Path("/sys/class/net").glob(f"{owner}-*"):  # a link goes with its other end
        with suppress(NoNetwork):
            _ip("link", "delete", link.name)


def _made(owner: str, names: Sequence[str]) -> dict[str, Host]:
    net = _free_net()
    here, *places = list(net.hosts())[: len(names) + 1]
    bridge = f"{owner}-br"
    _ip("link", "add", bridge, "type", "bridge")
    _ip("address", "add", f"{here}/{net.prefixlen}", "dev", bridge)
    _ip("link", "set", bridge, "up")
    hosts = {}
    for number, (name, address) in enumerate(zip(names, places, strict=True)):
        host = hosts[name] = Host(name, str(address), f"{owner}-{number}", f"{owner}-{number}")
        _ip("netns", "add", host.namespace)
        _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _ip("link", "set", host.link, "master", bridge, "up")
        _ip("-n", host.namespace, "address", "add", f"{address}/{net.prefixlen}", "dev", "eth0")
        _ip("-n", host.namespace, "link", "set", "eth0", "up")
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        # Programs ask for the way out to learn their own address; there is nobody at its other end.
        nobody = net.broadcast_address - 1
        _ip("-n", host.namespace, "route", "add", "default", "via", str(nobody))
    return hosts


def _free_net() -> ipaddress.IPv4Network:
    used = _ip("-4", "route", "show", "table", "all")
    for net in _NETS.subnets(new_prefix=24):
        if f"{net.network_address}/24" not in used:
            return net
    raise NoNetwork(f"no part of {_NETS} is free here")


def _owners() -> set[str]:
    spaces = [path.name for path in _NAMESPACES.glob(f"{_PREFIX}*-*")]
    links = [path.name for path in Path("/sys/class/net").glob(f"{_PREFIX}*-*")]
    return {name.partition("-")[0] for name in (*spaces, *links)}


def _pids(space: str) -> list[int]:
    try:
        return [int(pid) for pid in _ip("netns", "pids", space).split()]
    except NoNetwork:  # it is gone
        return []


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoNetwork(f"`ip {' '.join(arguments)}`: {done.stderr.strip() or done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.stdin.read()  # until the owner closes it, or is gone
    remove(sys.argv[1])
