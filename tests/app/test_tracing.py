"""Traces of a real server, as a collector for OpenTelemetry receives them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.local_server import local_server
from tests.app.texts import LIGHTHOUSE, ask, ingest

pytestmark = pytest.mark.e2e
QUESTION = "How tall is the lighthouse?"


class Collector:
    """Takes what is sent to /v1/traces."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def spans(self) -> list[Any]:
        found = []
        for body in self.bodies:
            sent = ExportTraceServiceRequest.FromString(body)
            found += [span for r in sent.resource_spans for scope in r.scope_spans for span in scope.spans]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_question_is_a_span_with_its_stages_below_the_callers_span_and_without_its_text(collector: Collector) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with local_server(environment={"LOREBASE_OTLP_ENDPOINT": collector.url}) as server:
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            ingest(client, LIGHTHOUSE)
            client.headers["traceparent"] = f"00-{trace}-{parent}-01"
            answered = ask(client, QUESTION, min_confidence=0)
            del client.headers["traceparent"]
            refused = client.post("/ask", json={"question": QUESTION, "filter": {"x": {"no": 1}}})
            assert refused.status_code == 422
    deadline = time.monotonic() + 10
    while len(collector.spans()) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    spans = collector.spans()
    [root] = [span for span in spans if span.name == "ask" and span.trace_id.hex() == trace]
    assert root.parent_span_id.hex() == parent
    attributes = {a.key: a.value.string_value or a.value.int_value for a in root.attributes}
    assert attributes["lorebase.request_id"] == answered["request_id"]
    assert (attributes["lorebase.adapter"], attributes["lorebase.outcome"]) == ("base", "answered")
    assert attributes["lorebase.prompt_tokens"] == answered["usage"]["prompt_tokens"]
    below = sorted((s for s in spans if s.parent_span_id == root.span_id), key=lambda s: s.start_time_unix_nano)
    assert [span.name for span in below] == ["retrieve", "prompt", "generate"]
    ends = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in below]
    assert ends[0][0] == root.start_time_unix_nano
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert ends[-1][1] == root.end_time_unix_nano

    [failed] = [span for span in spans if span.name == "ask" and span.trace_id.hex() != trace]
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert not any(b"lighthouse" in body for body in collector.bodies)
