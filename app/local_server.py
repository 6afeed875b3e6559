"""A real server process on this machine, for the demo and for measurements: started, waited for, stopped.

Knows the command line and the settings' names; knows nothing of what the server does.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.client import LorebaseClient

_SHOWN_LINES = 30
_POLL_SECONDS = 0.2


class ServerFailed(Exception):
    """The server process did not become ready; the message ends with what it wrote."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server and its keys.

    Attributes:
        data: its data folder.
        process: the server's, or that of the ``wrapper`` it was started through.
        log: what it writes.
    """

    url: str
    admin_key: str
    default_key: str
    data: Path
    process: subprocess.Popen[bytes]
    log: Path

    def client(self) -> LorebaseClient:
        """A client with the key of the ``default`` tenant."""
        return LorebaseClient(self.url, self.default_key)

    def admin(self) -> LorebaseClient:
        """A client with the admin key."""
        return LorebaseClient(self.url, self.admin_key)


@contextmanager
def local_server(
    *,
    environment: Mapping[str, str] | None = None,
    default_key: str | None = None,
    data: Path | None = None,
    wrapper: Sequence[str] = (),
    ready_seconds: float = 180.0,
    stop_seconds: float = 30.0,
    module: str = "app.cli",
) -> Iterator[LocalServer]:
    """Start a server on a free port with a data folder and keys of its own; stop it and forget the folder at the end.
    The file that its output goes to stays where ``data`` is given, beside that folder.

    Args:
        default_key: the key of the ``default`` tenant, instead of a made one.
        module: what is run instead of the command line, with its arguments.
        data: a data folder that is kept, instead of one of its own.
        wrapper: a command that starts the server's, such as ``("prlimit", "--fsize=1000000")``.
        environment: further settings, such as ``{"LOREBASE_MODEL": …}``; this process's environment is passed on.

    Raises:
        ServerFailed: the process ended, or was not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="lorebase-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        kept = Path(folder) / "data" if data is None else data
        written = kept.with_name(f"{kept.name}.log")
        url, admin_key = f"http://127.0.0.1:{port}", secrets.token_urlsafe(24)
        default_key = default_key or secrets.token_urlsafe(24)
        settings = {
            "LOREBASE_LOG_LEVEL": "warning",  # a line for every request would hide what went wrong
            **os.environ,
            **(environment or {}),
            "LOREBASE_HOST": "127.0.0.1",
            "LOREBASE_PORT": str(port),
            "LOREBASE_DATA": str(kept),
            "LOREBASE_ADMIN_KEY": admin_key,
            "LOREBASE_DEFAULT_KEY": default_key,
        }
        with written.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - module and wrapper are named by our own code
                [*wrapper, sys.executable, "-m", module, "serve"], env=settings, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            _wait_until_ready(process, url, written, ready_seconds)
            yield LocalServer(url, admin_key, default_key, kept, process, written)
        finally:
            _stop(process, stop_seconds)


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, written: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    reason = "It did not answer."
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"The server ended with exit code {process.returncode}. {_last_words(written)}")
        try:
            response = httpx.get(f"{url}/readyz", timeout=5.0)
        except httpx.TransportError:
            pass
        else:
            if response.status_code == 200:
                return
            reason = f"It answered: {response.text}"
        time.sleep(_POLL_SECONDS)
    raise ServerFailed(f"The server was not ready after {seconds:.0f} s. {reason} {_last_words(written)}")


def _last_words(written: Path) -> str:
    lines = written.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
    return "It wrote:\n" + "\n".join(lines) if lines else "It wrote nothing."


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
