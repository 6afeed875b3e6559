"""What a connection of bare bytes is answered. Knows sockets and status lines; knows no row."""

from __future__ import annotations

import re
import socket
import time


def answered(connection: socket.socket, sent: bytes = b"") -> bytes:
    """The status of the response, once ``sent`` is sent; empty where the connection ended without one, ``none in
    time`` where its timeout passed."""
    try:
        if sent:  # even nothing, sent on a closed connection, would hide the answer that lies there
            connection.sendall(sent)
        found = re.match(rb"HTTP/1.1 (\d+)", connection.recv(65536))
    except ConnectionError:
        return b""
    except TimeoutError:
        return b"none in time"
    return found[1] if found else b""


def left_behind(address: tuple[str, int], sent: bytes, seconds: float) -> None:
    """Send a request on a connection of its own, and hang up so many seconds later without reading."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(sent)
        time.sleep(seconds)
