"""Stores of adapters' files for tests: a folder, and a real S3 server in a process of its own on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest
from obstore.store import S3Store

from app.local_server import free_port

_READY_SECONDS = 60


@dataclass
class S3Server:
    """A running S3 server.

    Attributes:
        environment: how clients find it and who they are.
    """

    url: str
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def make_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return name

    def objects(self, bucket: str) -> set[str]:
        """The keys in a bucket, as the server lists them."""
        listed = httpx.get(f"{self.url}/{bucket}", params={"list-type": "2"}).raise_for_status().text
        return {each.partition("</Key>")[0] for each in listed.split("<Key>")[1:]}

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Overwrite an object, as whoever has the bucket could."""
        self._bucket(bucket).put(key, content)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object behind the service's back."""
        self._bucket(bucket).delete(key)

    def _bucket(self, name: str) -> S3Store:
        keys = {"access_key_id": self.environment["AWS_ACCESS_KEY_ID"], "secret_access_key": "tests"}
        return S3Store(name, endpoint=self.url, client_options={"allow_http": True}, **keys)


class Relay:
    """A way to a server on this machine that can be cut: then connections are refused, and those there are end."""

    def __init__(self, to: int) -> None:
        self._to = ("127.0.0.1", to)
        self.port = free_port()
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def join(self) -> None:
        """Let connections through."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._take, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        """Let nothing through."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _take(self, listening: socket.socket) -> None:
        while True:
            try:
                here, _ = listening.accept()
            except OSError:
                return
            there = socket.create_connection(self._to)
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        self._open.add(source)
        with suppress(OSError):
            while block := source.recv(65536):
                target.sendall(block)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        self._open.discard(source)


@contextmanager
def s3_process(port: int | None = None, **settings: str) -> Iterator[S3Server]:
    """moto's S3 server within the block; its objects are in its memory."""
    pytest.importorskip("moto", reason="needs moto's server")
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(url, process)
        yield S3Server(url, process, environment_of(url))
    finally:
        process.kill()
        process.wait()


def environment_of(url: str) -> dict[str, str]:
    """What clients of an S3 server at an address are told."""
    return {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
    }  # fmt: skip


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/moto-api/").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the S3 server did not begin")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server for the session; each test has a bucket of its own."""
    with s3_process() as server:
        yield server
