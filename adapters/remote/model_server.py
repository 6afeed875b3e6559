"""One OpenAI-compatible server: its calls, and what its errors mean to whoever asks a question.

Knows HTTP and OpenAI's shapes; knows no rows, no prompts, no adapters on disk. Lives in one event loop.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from adapters.errors import UpstreamFailed, UpstreamUnavailable

Kind = Literal["vllm", "lorebase", "other"]
_LIKE_VLLM = ("vllm", "lorebase-model-server")  # in `owned_by`: who takes adapters by name and folder
_CONNECT_SECONDS = 3.0
_PROBE_SECONDS = 5.0  # to say which models there are
_GONE_SECONDS = 5  # until a host that answers nothing is taken for gone, however long its answers may take
_BUSY = (408, 425, 429, 502, 503, 504)
_UNAVAILABLE = ("upstream_unavailable", "model_unavailable", "not_ready", "unavailable", "503")  # codes in a stream
_LONGEST_REASON = 300
_BROKEN_OFF = "The model server broke off in the middle of an answer"


class TryAgain(Exception):
    """Nothing was answered, and the same request may succeed in a moment.

    Attributes:
        error: what to tell when it does not.
        after: seconds that the server asks to wait, None when it does not say.
        sick: whether the server failed, and is not merely busy.
    """

    def __init__(self, error: UpstreamUnavailable | UpstreamFailed, after: float | None = None, *, sick: bool) -> None:
        super().__init__(str(error))
        self.error, self.after, self.sick = error, after, sick


class Refused(Exception):
    """The server refused the request itself (4xx).

    Attributes:
        code: its ``code``, empty when it gives none. ``reason``: a Lorebase's word for what is wrong with an adapter.
    """

    def __init__(self, status: int, message: str, code: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.reason = status, code, reason


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the server says of a model.

    Attributes:
        kind: how it takes adapters.
        context: tokens that prompt and answer may have together; None when it does not say.
        models: ids of all that it serves.
    """

    kind: Kind
    context: int | None
    models: frozenset[str]


class ModelServer:
    """A server's API under ``url``, such as ``http://127.0.0.1:8001/v1``.

    Args:
        silence_seconds: longest time without a byte while an answer is awaited.
    """

    def __init__(self, url: str, key: str | None, silence_seconds: float) -> None:
        self._url = url.rstrip("/")
        timeout = httpx.Timeout(silence_seconds, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.AsyncHTTPTransport(limits=limits, socket_options=_noticing(), trust_env=False)
        self._client = httpx.AsyncClient(timeout=timeout, headers=headers, transport=transport, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def served(self, model: str) -> ServedModel:
        """What it serves under a model's name. Raises Refused, TryAgain."""
        listed = await self.call("GET", "/models", timeout=_PROBE_SECONDS)
        entries = [entry for entry in listed.get("data", []) if isinstance(entry, dict)]
        by_id = {str(entry.get("id")): entry for entry in entries}
        if model not in by_id:
            names = ", ".join(sorted(by_id)[:8])
            raise Refused(404, f"it serves no model {model!r}; it has: {names}")
        entry = by_id[model]
        owner, context = entry.get("owned_by"), entry.get("max_model_len")
        kind: Kind = "vllm" if owner in _LIKE_VLLM else "lorebase" if owner == "lorebase" else "other"
        return ServedModel(kind, context if isinstance(context, int) and context > 0 else None, frozenset(by_id))

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One request and its JSON object, empty where there is none. A path beginning with ``/v1/..`` leaves the API's
        root. Raises Refused, TryAgain."""
        try:
            response = await self._client.request(method, self._address(path), **options)
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        self._check(response, response.text)
        try:
            body = response.json()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    async def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of a streamed chat, in order. Closing the iterator closes the connection, and with it the request.

        Raises:
            Refused, TryAgain: before the first chunk.
            UpstreamUnavailable: the stream broke off.
            UpstreamFailed: it is none, or says that the server failed.
        """
        begun = False
        try:
            async with self._client.stream("POST", self._address("/chat/completions"), json=body) as response:
                if response.status_code != 200:
                    self._check(response, (await response.aread()).decode("utf-8", "replace"))
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise UpstreamFailed("The model server did not answer with a stream.")
                async with aclosing(_chunks(response)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
        except httpx.HTTPError as error:
            if begun:
                raise UpstreamUnavailable(f"{_BROKEN_OFF} ({_named(error)}).") from error
            raise self._broken(error) from error

    def _address(self, path: str) -> str:
        root = self._url.removesuffix("/v1") if path.startswith("/adapters") else self._url
        return root + path

    def _broken(self, error: httpx.HTTPError) -> TryAgain:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return TryAgain(UpstreamUnavailable(f"The model server at {self._url} cannot be reached."), sick=True)
        if isinstance(error, httpx.TimeoutException):
            return TryAgain(UpstreamUnavailable("The model server did not answer in time."), sick=True)
        return TryAgain(UpstreamUnavailable(f"The model server broke off ({_named(error)})."), sick=True)

    def _check(self, response: httpx.Response, text: str) -> None:
        status = response.status_code
        if status < 400:
            return
        message, code, reason = _error_of(text)
        said = f"{status}: {message}" if message else str(status)
        if status in _BUSY:
            error = UpstreamUnavailable(f"The model server is overloaded or not ready ({said}).")
            raise TryAgain(error, _seconds(response.headers.get("retry-after")), sick=status not in (425, 429))
        if status >= 500:
            raise TryAgain(UpstreamFailed(f"The model server failed ({said})."), sick=True)
        raise Refused(status, message or f"it answered {status}", code, reason)


def _noticing() -> list[tuple[int, int, int]]:
    """Options of sockets by which a host that is gone or cut off is noticed, where the system has them."""
    wanted = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": _GONE_SECONDS - 2,
              "TCP_USER_TIMEOUT": 1000 * _GONE_SECONDS}  # fmt: skip
    known = [(getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, name, value) for name, value in known)]


async def _chunks(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """The events of a stream up to ``[DONE]``, or to a chunk that says why it ends."""
    finished = False
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise UpstreamFailed("The model server sent a chunk that is not JSON.") from error
        if not isinstance(chunk, dict):
            raise UpstreamFailed("The model server sent a chunk that is no object.")
        if chunk.get("error"):
            message, code, _ = _error_of(data)
            failed = UpstreamUnavailable if code in _UNAVAILABLE else UpstreamFailed
            raise failed(f"The model server failed in the middle of an answer: {message}")
        finished = finished or any(c.get("finish_reason") for c in chunk.get("choices") or [] if isinstance(c, dict))
        yield chunk
    if not finished:
        raise UpstreamUnavailable(f"{_BROKEN_OFF}.")


def _error_of(text: str) -> tuple[str, str, str]:
    """Message, code and reason of an error body: OpenAI's, a problem's, or any other, cut short."""
    try:
        body = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:_LONGEST_REASON], "", ""
    if not isinstance(body, dict):
        return "", "", ""
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    message = (
        error.get("message") or body.get("detail") or body.get("message") or (inner if isinstance(inner, str) else "")
    )
    return str(message)[:_LONGEST_REASON], str(error.get("code") or ""), str(body.get("reason") or "")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:  # a date: no hurry to honour it to the second
        return None


def _named(error: Exception) -> str:
    return type(error).__name__
