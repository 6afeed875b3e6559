"""The client against a tiny real HTTP server that records what it is sent."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from urllib.parse import quote

import pytest

from app.client import AsyncLorebaseClient, LorebaseClient, ServiceError, StreamEvent, read_events
from app.client.clients import Routes
from app.scopes import RULES

ANSWER = {
    "request_id": "r1", "answer": "42", "abstained": False, "confidence": 0.9, "citations": [], "passages": [],
    "adapter": None, "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "timings_ms": {"total": 1.0},
}  # fmt: skip
PROBLEM = "application/problem+json"


@dataclass
class Recorded:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


@dataclass
class Service:
    """What the server answers next, and what it was asked."""

    url: str = ""
    status: int = 200
    kind: str = "application/json"
    body: bytes = b"{}"
    requests: list[Recorded] = field(default_factory=list)

    def answers(self, body: object, status: int = 200, kind: str = "application/json") -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.kind = status, kind

    @property
    def last(self) -> Recorded:
        return self.requests[-1]


@pytest.fixture
def service() -> Iterator[Service]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append(Recorded(self.command, self.path, headers, body, self.client_address[1]))
            self.send_response(state.status)
            self.send_header("Content-Type", state.kind)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        do_GET = do_POST = do_DELETE = _reply  # noqa: N815  (names the base class calls)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(service: Service) -> Iterator[LorebaseClient]:
    with LorebaseClient(service.url, "a-key") as client:
        yield client


def test_a_question_is_sent_with_key_and_adapter_and_nothing_that_was_not_given(
    service: Service, client: LorebaseClient
) -> None:
    service.answers(ANSWER)
    assert client.ask("why?", adapter="finance@2").answer == "42"
    assert (service.last.method, service.last.path) == ("POST", "/ask")
    assert service.last.headers["authorization"] == "Bearer a-key"
    assert service.last.headers["x-adapter"] == "finance@2"
    assert json.loads(service.last.body) == {"question": "why?"}
    client.ask("why?")
    assert "x-adapter" not in service.last.headers


def test_a_confidence_of_zero_is_sent(service: Service, client: LorebaseClient) -> None:
    service.answers(ANSWER)
    client.ask("why?", min_confidence=0.0, top_k=3, passages=[{"title": "", "text": "because"}])
    assert json.loads(service.last.body) == {
        "question": "why?", "top_k": 3, "min_confidence": 0.0, "passages": [{"title": "", "text": "because"}],
    }  # fmt: skip


def test_requests_share_one_connection(service: Service, client: LorebaseClient) -> None:
    service.answers(ANSWER)
    for _ in range(3):
        client.ask("why?")
    assert len({request.port for request in service.requests}) == 1


def test_files_are_sent_as_one_form(service: Service, client: LorebaseClient, tmp_path: Path) -> None:
    service.answers({"job_id": "j", "documents": [{"id": "d", "title": "a", "status": "ready"}]})
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    stored = client.ingest_files([tmp_path / "a.txt", tmp_path / "b.txt"], metadata={"year": 2025})
    assert stored.documents[0].status == "ready"
    assert service.last.path == "/ingest?wait=true"
    assert service.last.body.count(b'name="files"') == 2
    assert b"text of b.txt" in service.last.body
    assert b'{"year": 2025}' in service.last.body


def test_texts_can_be_left_to_the_job(service: Service, client: LorebaseClient) -> None:
    service.answers({"job_id": "j", "documents": []}, 202)
    assert client.ingest_texts([{"title": "t", "text": "x"}], wait=False).job_id == "j"
    assert service.last.path == "/ingest?wait=false"
    assert json.loads(service.last.body) == {"documents": [{"title": "t", "text": "x"}], "collection": "default"}


def test_an_adapter_is_its_two_files(service: Service, client: LorebaseClient, tmp_path: Path) -> None:
    service.answers({"name": "n", "version": 3, "sha256": "f"}, 201)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        client.upload_adapter("n", tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    assert client.upload_adapter("n", tmp_path).version == 3
    assert service.last.path == "/adapters/n/versions"
    assert b'filename="adapter_model.safetensors"' in service.last.body
    service.answers({"name": "n", "version": 3, "sha256": "f"})
    assert client.promote("n", 3).version == 3
    assert json.loads(service.last.body) == {"version": 3}


def test_the_text_of_a_document_keeps_its_code_points(service: Service, client: LorebaseClient) -> None:
    service.answers("naïve 𝄞\r\nnext".encode(), kind="text/plain; charset=utf-8")
    assert client.document_text("d") == "naïve 𝄞\r\nnext"


def test_a_problem_becomes_a_service_error(service: Service, client: LorebaseClient) -> None:
    service.answers({"status": 404, "code": "unknown_adapter", "detail": "There is no 'x'."}, 404, PROBLEM)
    with pytest.raises(ServiceError, match=r"There is no 'x'\. \(404 unknown_adapter\)") as caught:
        client.ask("why?", adapter="x")
    assert (caught.value.status, caught.value.code, caught.value.detail) == (404, "unknown_adapter", "There is no 'x'.")


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"[]", b'{"detail": "x"}'])
def test_an_error_that_is_no_problem_json_is_a_service_error_too(
    service: Service, client: LorebaseClient, body: bytes
) -> None:
    service.answers(body, 502)
    with pytest.raises(ServiceError, match="502"):
        client.tenants()


def test_an_answer_of_another_shape_is_a_service_error(service: Service, client: LorebaseClient) -> None:
    service.answers({"hello": "world"})
    with pytest.raises(ServiceError, match="is this a Lorebase service") as caught:
        client.ask("why?")
    assert caught.value.code == "unexpected_answer"


def test_no_service_is_a_service_error() -> None:
    with LorebaseClient("http://127.0.0.1:9", "a-key") as nobody, pytest.raises(ServiceError) as caught:
        nobody.tenants()
    assert (caught.value.status, caught.value.code) == (0, "unreachable")


def test_a_stream_is_its_events(service: Service, client: LorebaseClient) -> None:
    stream = f'event: token\ndata: {{"text": "42"}}\n\n: still here\n\nevent: done\ndata: {json.dumps(ANSWER)}\n\n'
    service.answers(stream.encode(), kind="text/event-stream")
    first, last = client.ask_stream("why?", adapter="base")
    assert first == StreamEvent("token", {"text": "42"})
    assert (last.event, last.data["answer"]) == ("done", "42")
    assert json.loads(service.last.body) == {"question": "why?", "stream": True}
    assert service.last.headers["x-adapter"] == "base"


def test_a_stream_that_does_not_begin_is_a_service_error(service: Service, client: LorebaseClient) -> None:
    service.answers({"status": 401, "code": "unauthorized", "detail": "No."}, 401, PROBLEM)
    with pytest.raises(ServiceError, match="No"):
        list(client.ask_stream("why?"))


def test_events_may_span_lines() -> None:
    lines = iter(["event: x", 'data: {"a":', "data: 1}", "", "data: 2", "", "data: 3"])
    assert list(read_events(lines)) == [StreamEvent("x", {"a": 1}), StreamEvent("message", 2)]


def test_the_asynchronous_client_sends_and_reads_the_same(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")

    async def use() -> None:
        async with AsyncLorebaseClient(service.url, "a-key") as client:
            service.answers(ANSWER)
            assert (await client.ask("why?", adapter="finance@2")).answer == "42"
            assert service.last.headers["authorization"] == "Bearer a-key"
            assert service.last.headers["x-adapter"] == "finance@2"
            service.answers({"job_id": "j", "documents": []})
            await client.ingest_files([tmp_path / "a.txt"])
            assert b"some text" in service.last.body
            stream = f'event: token\ndata: {{"text": "4"}}\n\nevent: done\ndata: {json.dumps(ANSWER)}\n\n'
            service.answers(stream.encode(), kind="text/event-stream")
            assert [event.event async for event in client.ask_stream("why?")] == ["token", "done"]
            service.answers(b"PK zip", kind="application/zip")
            assert b"".join([piece async for piece in client.export_version("n", 1)]) == b"PK zip"
            service.answers({"status": 404, "code": "unknown_adapter", "detail": "There is no 'x'."}, 404, PROBLEM)
            with pytest.raises(ServiceError, match="There is no 'x'"):
                await client.adapter("x")
            with pytest.raises(ServiceError, match="There is no 'x'"):
                _ = [event async for event in client.ask_stream("why?")]
        async with AsyncLorebaseClient("http://127.0.0.1:9", "a-key") as nobody:
            with pytest.raises(ServiceError, match="No answer"):
                await nobody.tenants()

    asyncio.run(use())


def test_both_clients_have_a_method_for_every_route_and_no_other_difference() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(LorebaseClient) == public(AsyncLorebaseClient)
    assert all(getattr(Routes, name).__doc__ for name in public(Routes))


def test_every_route_has_a_method_but_those_of_other_clients(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    given = {"str": "x", "int": 1, "float": 1.0, "Path": tmp_path / "a.txt", "Sequence": [], "Mapping": {}}

    def route_of(name: str) -> str:
        describe = getattr(Routes, name)._describe
        needed = [p for p in signature(describe).parameters.values() if p.default is p.empty and p.kind < p.VAR_KEYWORD]
        sending = describe(*(given[re.split(r"\W", str(p.annotation))[0]] for p in needed)).sending
        asked = f"{sending.method} {sending.path}"
        return next(
            rule for rule in sorted(RULES, key=lambda rule: rule.count("{"))
            if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(rule)), asked)
        )  # fmt: skip

    methods = {route_of(name) for name in dir(Routes) if not name.startswith("_")}
    others = {rule for rule in RULES if " /v1/" in rule} | {"GET /livez", "GET /metrics"}
    assert methods == RULES.keys() - others


@pytest.mark.parametrize("name", ["a/b", "../tenants", "x?y=1", "Zürich"])
def test_a_name_never_becomes_another_address(service: Service, client: LorebaseClient, name: str) -> None:
    service.answers({"status": 404, "code": "not_found", "detail": "No."}, 404, PROBLEM)
    with pytest.raises(ServiceError):
        client.adapter(name)
    assert service.last.path == f"/adapters/{quote(name, safe='')}"
