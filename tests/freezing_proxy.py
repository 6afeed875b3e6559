"""A way to a server that can be frozen: what is sent is taken and goes nowhere, as by a process that stands still.

A real socket on both sides; knows no protocol.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_PIECE = 65536
_GLANCE_SECONDS = 0.05


class FreezingProxy:
    """Listens on this machine and forwards to where ``connect`` leads.

    Attributes:
        port: where it listens.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing, self._stopping = threading.Event(), threading.Event()
        self._flowing.set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def freeze(self) -> None:
        """Forward nothing from now on, and say so to nobody."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again, what was taken meanwhile first."""
        self._flowing.set()

    def close(self) -> None:
        self._stopping.set()
        self._flowing.set()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        self._listener.settimeout(_GLANCE_SECONDS)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._forward, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()
        self._listener.close()

    def _forward(self, client: socket.socket) -> None:
        self._flowing.wait()
        with client, self._connect() as server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while not self._stopping.is_set():
                for key, _ in ready.select(_GLANCE_SECONDS):
                    self._flowing.wait()
                    try:
                        piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                        key.data.sendall(piece)
                    except OSError:
                        return
                    if not piece:
                        return


@contextmanager
def freezing_proxy(connect: Callable[[], socket.socket]) -> Iterator[FreezingProxy]:
    """A proxy for the time of the block."""
    proxy = FreezingProxy(connect)
    try:
        yield proxy
    finally:
        proxy.close()
