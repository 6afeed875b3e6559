"""A model server in a process of its own, as its command starts it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.local_server import free_port
from tests.app.terminal.console import environment

KEY = "the key of the model server"
START_S = 240.0


@dataclass(frozen=True)
class RunningModelServer:
    """A model server, and what it writes."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def client(self, key: str = KEY) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def model_server(
    model: Path, folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[RunningModelServer]:
    """Serve ``model`` with adapters from inside ``folder``, where its log lies too."""
    port, log = free_port(), folder / "model-server.log"
    command = ["-m", "app.cli", "model-server", "--model", str(model), "--port", str(port), "--adapters", str(folder)]
    settings = {"LOREBASE_MODEL_SERVER_KEY": KEY, "LOREBASE_DTYPE": "float32", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, *command, *arguments], env=environment(**settings, **(variables or {})), stdout=written,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = RunningModelServer(f"http://127.0.0.1:{port}", log, process)
    try:
        deadline = time.monotonic() + START_S
        while not _healthy(server):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(server: RunningModelServer) -> bool:
    try:
        return server.client("").get("/health").status_code == 200
    except httpx.TransportError:
        return False
