"""Clients that hang up: while their question waits, while its prompt is read, while it is answered, streamed or not.

Each on a socket of its own, against the small language model, whose answers are made endless for this, and against the
reader; watched by the engine's own counters. A row leaves although most of its steps are not done, and nothing more is
computed for it.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.local_server import LocalServer, local_server
from reliability.outcome import Outcome

_SMALL_LM = Path(__file__).parent.parent / "examples" / "small_lm"
_PATIENCE_S = 60.0
_WORDS = 150  # of a long prompt; each is a token or more, and each token a step
_MAX_TOKENS = 400
_SHORT = "The lighthouse was built in 1874."
_LONG = " ".join(["It was built in 1874."] * (_WORDS // 5))
_RUNNING, _WAITING = 'engine_rows{state="running"}', 'engine_rows{state="waiting"}'
_STEPS, _LEFT = "engine_steps_total", 'asks_total{outcome="cancelled"}'


def run(*, seed: int = 1, rounds: int = 20, reader: bool = True) -> Outcome:
    """Hang up at every stage, so many times each, on every route that answers questions.

    Args:
        reader: also against the reader, which needs a server of its own.
    """
    outcome, chance = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="lorebase-gone-") as folder:
        model = _endless(Path(folder) / "model")
        # One row at a time, its prompt read token by token.
        with local_server(
            environment={"LOREBASE_MODEL": str(model), "LOREBASE_MAX_BATCH": "1", "LOREBASE_PREFILL_TOKENS": "1"}
        ) as server:
            watch = _Watch(server, outcome)
            for _ in range(rounds):
                for path in ("/ask", "/v1/chat/completions"):
                    for stream in (False, True):
                        _in_the_queue(watch, path, stream)
                        _in_the_prompt(watch, path, stream, chance)
                        _in_the_answer(watch, path, stream, chance)
    if reader:
        with local_server() as server:
            for _ in range(rounds):
                _from_the_reader(_Watch(server, outcome), chance)
    return outcome


@dataclass(frozen=True, slots=True)
class _Watch:
    """A server whose engine is watched."""

    server: LocalServer
    outcome: Outcome

    def value(self, name: str) -> float:
        """One number of the server's metrics."""
        admin = {"Authorization": f"Bearer {self.server.admin_key}"}
        told = httpx.get(f"{self.server.url}/metrics", headers=admin, timeout=_PATIENCE_S).raise_for_status().text
        found = re.search(rf"^lorebase_{re.escape(name)} (\S+)$", told, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def until(self, holds: Callable[[], bool], what: str) -> bool:
        """Wait until something holds; whether it came to be in time, which is counted."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (held := holds()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.outcome.check(held, what)

    def is_freed(self, name: str, before: float, most_steps: int) -> None:
        """Wait until nothing runs; most steps were not done, and none comes afterwards."""
        began = time.monotonic()
        if self.until(lambda: self.value(_RUNNING) == 0, f"{name}: its row stayed"):
            self.outcome.largest("freed_after_s", time.monotonic() - began)
            after = self.value(_STEPS)
            self.outcome.check(after - before < most_steps, f"{name}: all of its {most_steps} steps were done")
            self.outcome.check(self.value(_STEPS) == after, f"{name}: something was computed afterwards")

    @contextmanager
    def counted(self, name: str, questions: int = 1) -> Iterator[None]:
        """As many questions are counted as left, as are asked in this block."""
        before = self.value(_LEFT)
        yield
        self.until(lambda: self.value(_LEFT) == before + questions, f"{name}: not counted as left")


def _in_the_queue(watch: _Watch, path: str, stream: bool) -> None:
    name = f"in the queue of {path}, {stream=}"
    with watch.counted(name, 2):
        with _asked(watch.server, "/ask", True, _SHORT) as ahead:
            _read_until(ahead, b"event: token")
            with _asked(watch.server, path, stream, _SHORT):
                watch.until(lambda: watch.value(_WAITING) == 1, f"{name}: it never waited")
            watch.until(lambda: watch.value(_WAITING) == 0, f"{name}: it stayed")
            watch.outcome.check(watch.value(_RUNNING) == 1, f"{name}: the one ahead is gone too")
        watch.until(lambda: watch.value(_RUNNING) == 0, f"{name}: the one ahead stayed")


def _in_the_prompt(watch: _Watch, path: str, stream: bool, chance: random.Random) -> None:
    name = f"in the prompt of {path}, {stream=}"
    with watch.counted(name):
        before = watch.value(_STEPS)
        with _asked(watch.server, path, stream, _LONG):
            watch.until(lambda: watch.value(_RUNNING) == 1, f"{name}: it never began")
            time.sleep(chance.uniform(0, 0.02))
        watch.is_freed(name, before, _WORDS)


def _in_the_answer(watch: _Watch, path: str, stream: bool, chance: random.Random) -> None:
    name = f"in the answer of {path}, {stream=}"
    with watch.counted(name):
        before = watch.value(_STEPS)
        with _asked(watch.server, path, stream, _SHORT) as connection:
            if stream:
                _read_until(connection, b"event: token" if path == "/ask" else b'"content": "')
            else:  # one token of the prompt, and then of the answer, in each step
                watch.until(lambda: watch.value(_STEPS) - before > 150, f"{name}: it never began")
            time.sleep(chance.uniform(0, 0.02))
        watch.is_freed(name, before, _MAX_TOKENS)


def _from_the_reader(watch: _Watch, chance: random.Random) -> None:
    """Many questions at once, all of them left while most still wait."""
    name, questions = "from the reader", 12
    held: list[socket.socket] = []
    with watch.counted(name, questions):
        before = watch.value(_STEPS)
        for number in range(questions):
            text = f"House {number} stands {chance.random()}. " + "It is painted. " * 400
            held.append(_connection(watch.server, "/ask", _body("/ask", number % 2 == 0, text)))
        watch.until(lambda: watch.value(_RUNNING) > 0, f"{name}: none began")
        for each in held:
            each.close()
        watch.until(lambda: watch.value(_WAITING) == 0, f"{name}: some stayed in the queue")
        watch.is_freed(name, before, questions)


@contextmanager
def _asked(server: LocalServer, path: str, stream: bool, text: str) -> Iterator[socket.socket]:
    """A question on its way; its client hangs up at the end of the block."""
    with _connection(server, path, _body(path, stream, text)) as connection:
        yield connection


def _connection(server: LocalServer, path: str, body: dict[str, Any]) -> socket.socket:
    where = urlsplit(server.url)
    sent = json.dumps(body)
    connection = socket.create_connection((where.hostname, where.port), timeout=_PATIENCE_S)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.default_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    connection.sendall((head + sent).encode())
    return connection


def _body(path: str, stream: bool, text: str) -> dict[str, Any]:
    asked = {"max_tokens": _MAX_TOKENS, "stream": stream}
    if path == "/ask":
        return {"question": "When was it built?", "passages": [{"text": text}], **asked}
    messages = [{"role": "system", "content": text}, {"role": "user", "content": "When was it built?"}]
    return {"model": "base", "messages": messages, "lorebase": {"retrieval": False}, **asked}


def _read_until(connection: socket.socket, text: bytes) -> None:
    """Wait for a piece of the response. Raises ConnectionError when it ends before."""
    seen = b""
    while text not in seen:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"the answer ended before {text!r}: {seen[-300:]!r}")
        seen += piece


def _endless(folder: Path) -> Path:
    """The small language model, with the token that ends its answers never the likeliest."""
    shutil.copytree(_SMALL_LM, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    with (folder / "model.safetensors").open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        table = json.loads(file.read(length))["model.embed_tokens.weight"]  # of the output layer too: they are one
        first, last = table["data_offsets"]
        row = (last - first) // table["shape"][0]
        file.seek(8 + length + first + end * row)
        file.write(bytes(row))
    return folder
