"""The service on several hosts: PostgreSQL, two API replicas, and copies of a language model on a Ray of two nodes.

Each program runs on its host, and one that ends is started again after a second, as systemd or Kubernetes would. The
hosts share this machine's file system, as the replicas must share their data folder. Knows how each program is
started, when it is there and which process to kill; knows no load and no faults.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cluster.network import Host, network

MODEL = Path(__file__).parents[2] / "examples" / "small_lm"
API = ("api 1", "api 2")
DATABASE, HEAD, WORKER = "database", "model 1", "model 2"
HOSTS = (*API, DATABASE, HEAD, WORKER)
COPIES = 2
_AGAIN_SECONDS = 1.0
_POLL_SECONDS = 0.2
_START_SECONDS = 240.0
_OBJECT_STORE_BYTES = 100 * 1024**2
_SHOWN_LINES = 15


class NotWhole(Exception):
    """The programs did not come up; the message ends with what one of them wrote."""


@dataclass
class Program:
    """One program on a host.

    Attributes:
        command: as it runs there.
        log: what it writes.
    """

    name: str
    host: Host
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.host.inside(self.command), env=dict(self.environment), stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def signal(self, number: int) -> None:
        """Send a signal to it, and to none of its children."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_SHOWN_LINES:] if self.log.exists() else []
        return "\n".join(lines) or "nothing"


class Supervisor:
    """Starts a program that has ended again, a second later."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        ended: dict[str, float] = {}
        while not self._stopping.wait(_POLL_SECONDS):
            for program in self._programs:
                if not program.ended():
                    ended.pop(program.name, None)
                elif time.monotonic() >= ended.setdefault(program.name, time.monotonic()) + _AGAIN_SECONDS:
                    program.start()


@dataclass(frozen=True)
class Cluster:
    """The running programs, and how they are asked.

    Attributes:
        urls: of the API replicas.
        folder: where what belongs to the run lies.
    """

    hosts: Mapping[str, Host]
    programs: Mapping[str, Program]
    urls: Sequence[str]
    model_url: str
    model_key: str
    admin_key: str
    folder: Path

    def kill(self, name: str) -> None:
        """`kill -9` a program."""
        self.programs[name].signal(signal.SIGKILL)

    def kill_copy(self, host: str) -> None:
        """`kill -9` the copy of the model that runs on a host."""
        here = set(self.hosts[host].pids())
        os.kill(next(pid for pid in self.copies() if pid in here), signal.SIGKILL)

    def kill_named(self, host: str, name: str) -> None:
        """`kill -9` the one process on a host that bears a name."""
        found = [pid for pid in self.hosts[host].pids() if _name_of(pid) == name]
        os.kill(found[0], signal.SIGKILL)

    def copies(self) -> list[int]:
        """Pids of the copies of the model that answer; none where the model server does not."""
        with suppress(httpx.HTTPError, ValueError, KeyError):
            told = _get(f"{self.model_url}/replicas", self.model_key).json()
            return [int(each["process"]) for each in told["replicas"]]
        return []

    def ready(self) -> bool:
        """Whether every replica says so."""
        with suppress(httpx.HTTPError):
            return all(_get(f"{url}/readyz").status_code == 200 for url in self.urls)
        return False

    def whole(self) -> bool:
        """Whether everything is there that was at the start."""
        return self.ready() and len(set(self.copies())) == COPIES

    def wait_until(self, there: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
        """Wait until something is so. Raises NotWhole."""
        deadline = time.monotonic() + seconds
        while not there():
            if time.monotonic() > deadline:
                words = "\n\n".join(f"{name} wrote:\n{each.last_words()}" for name, each in self.programs.items())
                raise NotWhole(f"The programs are not all there after {seconds:.0f} s.\n\n{words}")
            time.sleep(_POLL_SECONDS)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """All programs, ready; stopped and forgotten at the end.

    Raises:
        NoNetwork: hosts cannot be made here.
        NotWhole: the programs did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="lorebase-cluster-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        with network(HOSTS) as hosts:
            made = _programs(hosts, folder)
            supervisor = Supervisor(list(made.programs.values()))
            try:
                _start(made)
                supervisor.start()
                made.wait_until(made.whole)
                yield made
            finally:
                if supervisor._thread.is_alive():
                    supervisor.stop()


def _programs(hosts: Mapping[str, Host], folder: Path) -> Cluster:
    keys = {name: secrets.token_urlsafe(24) for name in ("admin", "default", "model", "database")}
    model_url = f"http://{hosts[HEAD].address}:8001"
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "LOREBASE_LOG_LEVEL": "warning"}
    database = postgresql(hosts[DATABASE], folder, keys["database"])
    serving = {
        **quiet,
        "LOREBASE_DATA": str(folder / "data"),
        "LOREBASE_DATABASE_URL": f"postgresql://lorebase:{keys['database']}@{hosts[DATABASE].address}/lorebase",
        "LOREBASE_MODEL": f"openai:{MODEL.name}",
        "LOREBASE_OPENAI_URL": f"{model_url}/v1",
        "LOREBASE_OPENAI_KEY": keys["model"],
        "LOREBASE_ADMIN_KEY": keys["admin"],
        "LOREBASE_DEFAULT_KEY": keys["default"],
    }
    programs = [database, *ray(hosts, folder, quiet, keys["model"])]
    for name in API:
        own = {**serving, "LOREBASE_HOST": hosts[name].address, "LOREBASE_PORT": "8000"}
        command = [sys.executable, "-m", "app.cli", "serve"]
        programs.append(Program(name, hosts[name], command, own, folder / f"{name}.log"))
    urls = [f"http://{hosts[name].address}:8000" for name in API]
    by_name = {program.name: program for program in programs}
    return Cluster(hosts, by_name, urls, model_url, keys["model"], keys["admin"], folder)


def postgresql(host: Host, folder: Path, password: str) -> Program:
    """A PostgreSQL server that takes the role `lorebase` by its password, on the host's address alone."""
    import pgserver
    import psycopg
    from pgserver.postgres_server import POSTGRES_BIN_PATH

    place = folder / "postgresql"
    server = pgserver.get_server(place, cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE lorebase LOGIN PASSWORD '{password}'".encode())
            connection.execute("CREATE DATABASE lorebase OWNER lorebase ENCODING 'UTF8' TEMPLATE template0")
    finally:
        server.cleanup()
    with (place / "pg_hba.conf").open("a") as rules:
        rules.write("host lorebase lorebase samenet scram-sha-256\n")
    owner = place.stat()
    command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups",
               str(POSTGRES_BIN_PATH / "postgres"), "-D", str(place), "-h", host.address, "-k", str(place)]  # fmt: skip
    return Program("PostgreSQL", host, command, os.environ, folder / "postgresql.log")


def ray(hosts: Mapping[str, Host], folder: Path, environment: Mapping[str, str], key: str) -> list[Program]:
    """A Ray of two nodes with room for one copy of the model on each, and the model server on the first."""
    head, worker = hosts[HEAD], hosts[WORKER]
    environment = {
        **environment,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "LOREBASE_MODEL_SERVER_KEY": key,
        "LOREBASE_DTYPE": "float32",
    }
    node = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", "--num-cpus=1",
            f"--object-store-memory={_OBJECT_STORE_BYTES}"]  # fmt: skip
    gcs = f"{head.address}:6379"
    commands = {
        "Ray head": (head, [*node, "--head", f"--node-ip-address={head.address}", "--port=6379",
                            "--include-dashboard=false"]),
        "Ray worker": (worker, [*node, f"--address={gcs}", f"--node-ip-address={worker.address}"]),
        "model server": (head, [sys.executable, "-m", "app.cli", "model-server", "--host", head.address, "--port",
                                "8001", "--ray", "--ray-address", gcs, "--replicas", str(COPIES), "--cpus", "1",
                                "--model", str(MODEL), "--adapters", str(folder / "data")]),
    }  # fmt: skip
    programs = []
    for name, (host, command) in commands.items():
        own = folder / f"ray of {host.name}"  # as on another machine: Ray's files are a host's own
        own.mkdir(exist_ok=True)
        mounted = ["sh", "-c", 'mkdir -p /tmp/ray && mount --bind "$0" /tmp/ray && exec "$@"', str(own), *command]
        programs.append(Program(name, host, mounted, environment, folder / f"{name}.log"))
    return programs


def _start(made: Cluster) -> None:
    """In the order in which each is waited for by the next."""
    for program in made.programs.values():
        program.start()
        if program.name == "Ray head":
            made.wait_until(lambda: _listens(made.hosts[HEAD].address, 6379))
        if program.name == "api 1":  # makes the tables
            made.wait_until(lambda: _answers(made.urls[0]))


def _listens(address: str, port: int) -> bool:
    import socket

    with suppress(OSError):
        socket.create_connection((address, port), 1.0).close()
        return True
    return False


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return _get(f"{url}/livez").status_code == 200
    return False


def _get(url: str, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(url, headers=headers, timeout=2.0, trust_env=False)


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def told(response: httpx.Response) -> Any:
    """The JSON of a response that is expected to be fine."""
    response.raise_for_status()
    return response.json()
