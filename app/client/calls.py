"""One request as plain data, and how its response is read: what both clients send is described once.

Knows HTTP's shapes and problem JSON; knows no route and no connection.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)
PATIENT = httpx.Timeout(3600.0, connect=10.0)  # for what answers when a job has ended


class ServiceError(Exception):
    """The service refused or failed a request.

    Attributes:
        status: the HTTP status; 0 when no answer came.
        code: the stable word of the problem JSON, such as ``not_found``; ``unreachable`` when no answer came.
        detail: a sentence for a person.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {code})" if status else detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a streamed answer; ``data`` is the decoded JSON."""

    event: Literal["passages", "token", "done", "error"] | str
    data: Any


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent: ``path`` is quoted already; ``files`` are pairs of a form field and a file to read."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    form: Mapping[str, str] | None = None
    files: Sequence[tuple[str, Path]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    patient: bool = False

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """The arguments for httpx, with the files open. Raises OSError for a file that cannot be read."""
        with ExitStack() as opened:
            given: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
            given |= {} if self.params is None else {"params": dict(self.params)}
            given |= {} if self.json is None else {"json": self.json}
            given |= {} if self.form is None else {"data": dict(self.form)}
            if self.files:
                given["files"] = [
                    (name, (path.name, opened.enter_context(path.open("rb")))) for name, path in self.files
                ]
            if self.patient:
                given["timeout"] = PATIENT
            yield given


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with one answer; ``read`` makes of a good response what the method returns."""

    sending: Sending
    read: Callable[[httpx.Response], T]


@dataclass(frozen=True, slots=True)
class Events(Generic[T]):
    """A request that is answered by server-sent events; ``read`` makes an item of each."""

    sending: Sending
    read: Callable[[StreamEvent], T]


@dataclass(frozen=True, slots=True)
class Download:
    """A request that is answered by bytes, too many to keep in memory."""

    sending: Sending


def shaped(shape: type[Shape], sending: Sending) -> Call[Shape]:
    """A call that is answered with one JSON object of a shape."""

    def read(response: httpx.Response) -> Shape:
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            detail = (
                f"{sending.method} {sending.path.partition('?')[0]} did not answer with a {shape.__name__}: "
                "is this a Lorebase service?"
            )
            raise ServiceError(response.status_code, "unexpected_answer", detail) from error

    return Call(sending, read)


def nothing(sending: Sending) -> Call[None]:
    """A call that is answered by nothing."""
    return Call(sending, lambda _: None)


def path_of(*parts: str | int) -> str:
    """A path of these parts; none of them becomes another part, or none."""
    return "".join(f"/{quote(str(part), safe='') or '%20'}" for part in parts)


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None: the service's own default holds for the others."""
    return {name: value for name, value in fields.items() if value is not None}


def problem(response: httpx.Response) -> ServiceError:
    """The error that a response, already read, stands for."""
    try:
        body = json.loads(response.content)
        return ServiceError(response.status_code, str(body["code"]), str(body["detail"]))
    except (ValueError, KeyError, TypeError):
        return ServiceError(response.status_code, "error", f"The service answered {response.status_code}.")


def unreachable(error: httpx.HTTPError | httpx.InvalidURL) -> ServiceError:
    """The error of a request that got no answer."""
    where = ""
    if isinstance(error, httpx.HTTPError):
        try:
            where = f" at {error.request.url}"
        except RuntimeError:  # it has no request
            where = ""
    return ServiceError(0, "unreachable", f"No answer from the service{where}: {str(error) or type(error).__name__}")


class EventReader:
    """Puts the lines of a server-sent event stream together; every event's data is JSON."""

    def __init__(self) -> None:
        self._event, self._data = "message", list[str]()

    def take(self, line: str) -> StreamEvent | None:
        """The event that a line completes."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and self._data:
            done = StreamEvent(self._event, json.loads("\n".join(self._data)))
            self._event, self._data = "message", []
            return done
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None


def read_events(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """The events of a server-sent event stream, each with JSON data."""
    reader = EventReader()
    for line in lines:
        if (event := reader.take(line)) is not None:
            yield event


async def read_events_async(lines: AsyncIterable[str]) -> AsyncIterator[StreamEvent]:
    """The same, as they come in."""
    reader = EventReader()
    async for line in lines:
        if (event := reader.take(line)) is not None:
            yield event
