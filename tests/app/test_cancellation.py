"""A client that hangs up frees its row within a step: in the queue, in the prompt, while generating, streamed or not.

Against a real server with one place in its batch, watched by the engine's own counters."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.local_server import LocalServer, local_server
from tests.adapters.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
MAX_TOKENS = 4096
PROMPT_WORDS = 600
RUNNING, WAITING = 'engine_rows{state="running"}', 'engine_rows{state="waiting"}'
PASSAGES = [{"text": "The lighthouse was built in 1874."}]
LONG = [{"text": " ".join(f"w{i}" for i in range(PROMPT_WORDS))}]
CHAT: list[dict[str, str]] = [{"role": "user", "content": "When?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One row at a time, its prompt read token by token; an answer takes thousands of steps."""
    model = make_tiny_llama(tmp_path_factory.mktemp("model"), context=16_384, endless=True)
    environment = {
        "LOREBASE_MODEL": str(model),
        "LOREBASE_MAX_BATCH": "1",
        "LOREBASE_PREFILL_TOKENS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with local_server(environment=environment) as running:
        yield running


@pytest.fixture(autouse=True)
def idle(server: LocalServer) -> None:
    until(lambda: value(server, RUNNING) == value(server, WAITING) == 0)


def value(server: LocalServer, name: str) -> float:
    """One number of the server's metrics."""
    response = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.admin_key}"}, timeout=30)
    assert response.status_code == 200, response.text
    found = re.search(rf"^lorebase_{re.escape(name)} (\S+)$", response.text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def body_of(path: str, stream: bool, passages: list[dict[str, str]]) -> dict[str, Any]:
    if path == "/ask":
        return {"question": "When?", "passages": passages, "max_tokens": MAX_TOKENS, "stream": stream}
    text = passages[0]["text"]
    return {
        "model": "base",
        "messages": [{"role": "system", "content": text}, *CHAT],
        "max_tokens": MAX_TOKENS,
        "stream": stream,
        "lorebase": {"retrieval": False},
    }


class Call:
    """A request on a socket of its own, which can be cut at any moment."""

    def __init__(self, server: LocalServer, path: str, stream: bool, passages: list[dict[str, str]]) -> None:
        request = httpx.Request(
            "POST",
            server.url + path,
            json=body_of(path, stream, passages),
            headers={"Authorization": f"Bearer {server.default_key}"},
        )
        where = urlsplit(server.url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S)
        head = "".join(f"{name}: {text}\r\n" for name, text in request.headers.items())
        self._socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + request.content)

    def read_until(self, text: bytes) -> None:
        """Wait for a piece of the response."""
        seen = b""
        while text not in seen:
            piece = self._socket.recv(4096)
            assert piece, seen
            seen += piece

    def hang_up(self) -> None:
        self._socket.close()


def assert_freed(server: LocalServer, steps_it_would_take: int, before: float) -> None:
    """The row leaves although most of its steps are not done, and nothing is computed afterwards."""
    until(lambda: value(server, RUNNING) == 0)
    after = value(server, "engine_steps_total")
    assert after - before < steps_it_would_take
    assert value(server, "engine_steps_total") == after


@pytest.mark.parametrize("path", ["/ask", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
class TestAClientThatHangsUp:
    def test_while_its_question_waits_leaves_the_queue(self, server: LocalServer, path: str, stream: bool) -> None:
        ahead = Call(server, "/ask", True, PASSAGES)
        ahead.read_until(b"event: token")
        waiting = Call(server, path, stream, PASSAGES)
        until(lambda: value(server, WAITING) == 1)
        waiting.hang_up()
        until(lambda: value(server, WAITING) == 0)
        assert value(server, RUNNING) == 1  # the one ahead goes on
        ahead.hang_up()

    def test_while_its_prompt_is_read_frees_the_row(self, server: LocalServer, path: str, stream: bool) -> None:
        before = value(server, "engine_steps_total")
        call = Call(server, path, stream, LONG)
        until(lambda: value(server, RUNNING) == 1)
        call.hang_up()
        assert_freed(server, PROMPT_WORDS, before)

    def test_while_it_generates_frees_the_row(self, server: LocalServer, path: str, stream: bool) -> None:
        before = value(server, "engine_steps_total")
        call = Call(server, path, stream, PASSAGES)
        if stream:
            call.read_until(b"event: token" if path == "/ask" else b'"content": "')
        else:  # one token of the prompt, and then of the answer, in each step
            until(lambda: value(server, "engine_steps_total") - before > 400)
        call.hang_up()
        assert_freed(server, MAX_TOKENS, before)


def test_questions_that_were_left_are_counted_as_cancelled(server: LocalServer) -> None:
    before = value(server, 'asks_total{outcome="cancelled"}')
    call = Call(server, "/ask", False, PASSAGES)
    until(lambda: value(server, RUNNING) == 1)
    call.hang_up()
    until(lambda: value(server, 'asks_total{outcome="cancelled"}') == before + 1)
