"""The two clients: every route of `app.client.requests` as a method, which returns in one and is awaited in the other.

Knows connections; what is sent and how it is read is described in `app.client.requests`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from app.client import requests
from app.client.calls import Call, Download, Events, Sending, problem, read_events, read_events_async, unreachable
from app.schemas import ChunkResponse

P = ParamSpec("P")
T = TypeVar("T")
_QUICK = httpx.Timeout(60.0, connect=10.0)
_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL)


class _Answered(Generic[P, T]):
    """A method of both clients for a route with one answer."""

    def __init__(self, describe: Callable[P, Call[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: LorebaseClient, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncLorebaseClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: LorebaseClient | AsyncLorebaseClient | None, owner: type) -> Any:
        if client is None:
            return self
        return _bound(self._describe, client.send)


class _Streamed(Generic[P, T]):
    """A method of both clients for a route that answers event by event."""

    def __init__(self, describe: Callable[P, Events[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: LorebaseClient, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncLorebaseClient, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: LorebaseClient | AsyncLorebaseClient | None, owner: type) -> Any:
        if client is None:
            return self
        return _bound(self._describe, client.stream)


class _Downloaded(Generic[P]):
    """A method of both clients for a route that answers with bytes, given piece by piece."""

    def __init__(self, describe: Callable[P, Download]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: LorebaseClient, owner: type) -> Callable[P, Iterator[bytes]]: ...
    @overload
    def __get__(self, client: AsyncLorebaseClient, owner: type) -> Callable[P, AsyncIterator[bytes]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: LorebaseClient | AsyncLorebaseClient | None, owner: type) -> Any:
        if client is None:
            return self
        return _bound(self._describe, client.download)


class Routes:
    """What both clients can do; each is told in `app.client.requests`."""

    ready = _Answered(requests.documents.ready)
    ingest_texts = _Answered(requests.documents.ingest_texts)
    ingest_files = _Answered(requests.documents.ingest_files)
    replace_document = _Answered(requests.documents.replace_document)
    documents = _Answered(requests.documents.documents)
    document = _Answered(requests.documents.document)
    document_text = _Answered(requests.documents.document_text)
    chunk_page = _Answered(requests.documents.chunk_page)
    page_image = _Downloaded(requests.documents.page_image)
    retry_document = _Answered(requests.documents.retry_document)
    delete_document = _Answered(requests.documents.delete_document)
    delete_documents = _Answered(requests.documents.delete_documents)
    splitting = _Answered(requests.documents.splitting)
    set_splitting = _Answered(requests.documents.set_splitting)
    jobs = _Answered(requests.documents.jobs)
    job = _Answered(requests.documents.job)
    follow_job = _Streamed(requests.documents.follow_job)
    cancel_job = _Answered(requests.documents.cancel_job)
    retry_job = _Answered(requests.documents.retry_job)
    search = _Answered(requests.questions.search)
    ask = _Answered(requests.questions.ask)
    ask_stream = _Streamed(requests.questions.ask_stream)
    give_feedback = _Answered(requests.questions.give_feedback)
    feedback = _Answered(requests.questions.feedback)
    feedback_lines = _Downloaded(requests.questions.feedback_lines)
    forget_feedback = _Answered(requests.questions.forget_feedback)
    templates = _Answered(requests.questions.templates)
    put_template = _Answered(requests.questions.put_template)
    template = _Answered(requests.questions.template)
    set_default_template = _Answered(requests.questions.set_default_template)
    delete_template = _Answered(requests.questions.delete_template)
    adapters = _Answered(requests.adapters.adapters)
    adapter = _Answered(requests.adapters.adapter)
    upload_adapter = _Answered(requests.adapters.upload_adapter)
    promote = _Answered(requests.adapters.promote)
    rollback = _Answered(requests.adapters.rollback)
    canary = _Answered(requests.adapters.canary)
    pin = _Answered(requests.adapters.pin)
    set_default_adapter = _Answered(requests.adapters.set_default_adapter)
    delete_adapter = _Answered(requests.adapters.delete_adapter)
    delete_version = _Answered(requests.adapters.delete_version)
    export_version = _Downloaded(requests.adapters.export_version)
    upload_dataset = _Answered(requests.training.upload_dataset)
    datasets = _Answered(requests.training.datasets)
    dataset = _Answered(requests.training.dataset)
    dataset_examples = _Downloaded(requests.training.dataset_examples)
    build_dataset = _Answered(requests.training.build_dataset)
    judge_answers = _Answered(requests.training.judge_answers)
    delete_dataset = _Answered(requests.training.delete_dataset)
    train = _Answered(requests.training.train)
    loss = _Answered(requests.training.loss)
    gate = _Answered(requests.training.gate)
    evaluate = _Answered(requests.training.evaluate)
    evaluations = _Answered(requests.training.evaluations)
    evaluation = _Answered(requests.training.evaluation)
    evaluation_report = _Answered(requests.training.evaluation_report)
    delete_evaluation = _Answered(requests.training.delete_evaluation)
    tenants = _Answered(requests.tenants.tenants)
    create_tenant = _Answered(requests.tenants.create_tenant)
    delete_tenant = _Answered(requests.tenants.delete_tenant)
    tenant = _Answered(requests.tenants.tenant)
    change_limits = _Answered(requests.tenants.change_limits)
    keys = _Answered(requests.tenants.keys)
    add_key = _Answered(requests.tenants.add_key)
    rotate_key = _Answered(requests.tenants.rotate_key)
    revoke_key = _Answered(requests.tenants.revoke_key)
    own_key = _Answered(requests.tenants.own_key)
    usage = _Answered(requests.tenants.usage)
    tenant_usage = _Answered(requests.tenants.tenant_usage)
    audit = _Answered(requests.tenants.audit)
    tenant_audit = _Answered(requests.tenants.tenant_audit)
    verify_audit = _Answered(requests.tenants.verify_audit)
    admin_keys = _Answered(requests.tenants.admin_keys)
    add_admin_key = _Answered(requests.tenants.add_admin_key)
    rotate_admin_key = _Answered(requests.tenants.rotate_admin_key)
    revoke_admin_key = _Answered(requests.tenants.revoke_admin_key)
    policy = _Answered(requests.tenants.policy)
    change_policy = _Answered(requests.tenants.change_policy)
    backup = _Downloaded(requests.tenants.backup)
    export_tenant = _Downloaded(requests.tenants.export_tenant)


class LorebaseClient(Routes):
    """Talks to one service with one key, over kept-alive connections. Use it as a context manager.

    Every method raises `ServiceError`.

    Args:
        base_url: such as ``http://127.0.0.1:8000``.
        api_key: a tenant's key, or the admin's for the methods that say so.
        transport: another way to send requests, such as ``httpx.MockTransport``.
        verify: which certificates to trust, as httpx takes it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        try:
            self._http = httpx.Client(
                base_url=base_url,
                headers=_headers(api_key),
                timeout=_QUICK,
                transport=transport,
                verify=verify,
            )
        except httpx.InvalidURL as error:
            raise unreachable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chunks(self, document_id: str) -> Iterator[ChunkResponse]:
        """The pieces a document was split into, in order, asked for page by page."""
        offset = 0
        while True:
            page = self.chunk_page(document_id, offset=offset)
            yield from page.chunks
            offset += len(page.chunks)
            if not page.chunks or offset >= page.total:
                return

    def send(self, call: Call[T]) -> T:
        """Send a request and read its answer."""
        try:
            with call.sending.arguments() as given:
                response = self._http.request(**given)
        except _NO_ANSWER as error:
            raise unreachable(error) from error
        if not response.is_success:
            raise problem(response)
        return call.read(response)

    def stream(self, events: Events[T]) -> Iterator[T]:
        """Send a request and give its events as they come."""
        with self._opened(events.sending) as response:
            for event in read_events(response.iter_lines()):
                yield events.read(event)

    def download(self, wanted: Download) -> Iterator[bytes]:
        """Send a request and give its answer's bytes as they come."""
        with self._opened(wanted.sending) as response:
            yield from response.iter_bytes()

    @contextlib.contextmanager
    def _opened(self, sending: Sending) -> Iterator[httpx.Response]:
        """A good answer, to be read while it comes."""
        try:
            with sending.arguments() as given, self._http.stream(**given) as response:
                if not response.is_success:
                    response.read()
                    raise problem(response)
                yield response
        except _NO_ANSWER as error:
            raise unreachable(error) from error


class AsyncLorebaseClient(Routes):
    """The same for asyncio: methods are awaited, streams are read with ``async for``. Use it with ``async with``.

    Args are those of `LorebaseClient`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        try:
            self._http = httpx.AsyncClient(
                base_url=base_url,
                headers=_headers(api_key),
                timeout=_QUICK,
                transport=transport,
                verify=verify,
            )
        except httpx.InvalidURL as error:
            raise unreachable(error) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def chunks(self, document_id: str) -> AsyncIterator[ChunkResponse]:
        """The pieces a document was split into, in order, asked for page by page."""
        offset = 0
        while True:
            page = await self.chunk_page(document_id, offset=offset)
            for chunk in page.chunks:
                yield chunk
            offset += len(page.chunks)
            if not page.chunks or offset >= page.total:
                return

    async def send(self, call: Call[T]) -> T:
        """Send a request and read its answer."""
        try:
            with call.sending.arguments() as given:
                response = await self._http.request(**given)
        except _NO_ANSWER as error:
            raise unreachable(error) from error
        if not response.is_success:
            raise problem(response)
        return call.read(response)

    async def stream(self, events: Events[T]) -> AsyncIterator[T]:
        """Send a request and give its events as they come."""
        async with self._opened(events.sending) as response:
            async for event in read_events_async(response.aiter_lines()):
                yield events.read(event)

    async def download(self, wanted: Download) -> AsyncIterator[bytes]:
        """Send a request and give its answer's bytes as they come."""
        async with self._opened(wanted.sending) as response:
            async for piece in response.aiter_bytes():
                yield piece

    @contextlib.asynccontextmanager
    async def _opened(self, sending: Sending) -> AsyncIterator[httpx.Response]:
        """A good answer, to be read while it comes."""
        try:
            with sending.arguments() as given:
                async with self._http.stream(**given) as response:
                    if not response.is_success:
                        await response.aread()
                        raise problem(response)
                    yield response
        except _NO_ANSWER as error:
            raise unreachable(error) from error


def _headers(api_key: str) -> dict[bytes, bytes]:
    return {b"Authorization": b"Bearer " + api_key.encode()}


def _bound(describe: Callable[..., Any], act: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(describe)
    def method(*given: Any, **named: Any) -> Any:
        return act(describe(*given, **named))

    return method
