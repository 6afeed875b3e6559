"""A real HTTP process that speaks OpenAI's chat API and misbehaves as it is told: for the tests of the `openai` engine.

`python -m tests.adapters.misbehaving_server PORT`; the model's name says what goes wrong, or ``judge``: that one names
the source that begins as its task asks, and goes on talking. What was asked, and which requests were closed early, is
told under ``/seen``.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = ("good", "slow", "cut", "flaky", "busy", "broken", "garbage", "plain", "refusing", "down", "judge")
WORDS = ("The ", "revenue ", "was ", "12 ", "million", " [1].")
_seen: dict[str, Any] = {"requests": 0, "closed": 0, "bodies": [], "down": False}
_lock = threading.Lock()


def verdict(prompt: str) -> str:
    """What the model ``judge`` says: which of the numbered sources begins with the text that the task quotes."""
    wanted = re.search(r'Begins with "(.+?)"', prompt)
    found = wanted and re.search(rf"^\[(\d+)\] {re.escape(wanted[1])}", prompt, re.MULTILINE)
    return f"Answer {found[1]} is better, {'because it is as asked, ' * 9}." if found else "Neither."


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/seen":
            self._json(200, _seen)
        elif self.path == "/down" or self.path == "/up":
            _seen["down"] = self.path == "/down"
            self._json(200, {})
        elif _seen["down"]:
            self._json(500, {"error": {"message": "the GPU fell off"}})
        else:
            owner = {"owned_by": "vllm", "max_model_len": 4096}
            listed = [{"id": name, **owner} for name in MODELS] + [{"id": "other", "owned_by": "somebody"}]
            self._json(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._json(404, {"detail": "Not Found"})
            return
        with _lock:
            _seen["requests"] += 1
            _seen["bodies"].append(body)
            number = sum(1 for each in _seen["bodies"] if each["model"] == body["model"])
        model = body["model"]
        if _seen["down"] or model == "broken" or (model == "flaky" and number % 3):
            self._json(500, {"error": {"message": "the GPU fell off", "code": "gpu"}})
        elif model == "busy" and number % 2:
            self._json(429, {"error": {"message": "too many"}}, {"Retry-After": "0"})
        elif model == "refusing" and "logprobs" in body:
            self._json(400, {"error": {"message": "logprobs is not supported"}})
        elif model == "plain":
            self._json(200, {"choices": []})
        elif model == "judge":
            said = verdict(body["messages"][-1]["content"]).split(" ")
            cut = len(said) > body["max_tokens"]
            self._stream(model, [f"{word} " for word in said[: body["max_tokens"]]], "length" if cut else "stop")
        else:
            self._stream(model)

    def _stream(self, model: str, words: Sequence[str] = WORDS, finish_reason: str = "stop") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for i, word in enumerate(words):
                if model == "slow":
                    time.sleep(0.05)
                if model == "garbage" and i == 0:
                    self._send(b"data: {not json\n\n")
                self._chunk({"delta": {"content": word}, "logprobs": {"content": [{"logprob": -0.1}]}})
                if model == "cut" and i == 2:
                    return
            for _ in range(400 if model == "slow" else 0):
                time.sleep(0.05)
                self._chunk({"delta": {"content": " more"}})
            self._chunk({"delta": {}, "finish_reason": finish_reason})
            self._send(b'data: {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 6}}\n\n')
            self._send(b"data: [DONE]\n\n")
        except OSError:
            with _lock:
                _seen["closed"] += 1
        finally:
            self.close_connection = True

    def _chunk(self, choice: dict[str, Any]) -> None:
        self._send(f"data: {json.dumps({'choices': [{'index': 0, **choice}]})}\n\n".encode())

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
