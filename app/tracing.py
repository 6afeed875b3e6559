"""Traces of answered questions for OpenTelemetry: one span for each, with its stages below it, sent over OTLP.

Off unless LOREBASE_OTLP_ENDPOINT is set; the libraries come with the extra `tracing` and are imported only then. Spans
carry ids, counts and times, never a question, an answer or a document; the tenant as a hash.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

_EXPORT_SECONDS = 5  # one sending; what cannot be sent is dropped, and no question waits for it
_SERVICE = "lorebase"


class TracingUnavailable(Exception):
    """Traces are wanted, and the libraries for them are not installed."""


@dataclass(slots=True)
class Walk:
    """One question on its way. Times are nanoseconds since the epoch; None for a stage that was not reached."""

    request_id: str
    tenant_id: str
    traceparent: str | None
    began: int = field(default_factory=time.time_ns)
    retrieved: int | None = None
    first_piece: int | None = None

    def piece(self) -> None:
        """A piece of the answer came."""
        self.first_piece = self.first_piece or time.time_ns()


class Tracing:
    """Makes spans of walks that have ended, and sends them from a thread of its own.

    Args:
        endpoint: of an OTLP collector, such as ``http://127.0.0.1:4318/v1/traces``.

    Raises:
        TracingUnavailable: the extra `tracing` is not installed.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingUnavailable(
                "LOREBASE_OTLP_ENDPOINT needs more libraries: pip install 'lorebase[tracing]', or unset it."
            ) from error
        resource = Resource.create({"service.name": _SERVICE, "service.version": version})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_SERVICE, version)

    def ended(self, walk: Walk, outcome: str, adapter: str, attributes: dict[str, Any]) -> None:
        """Note a walk that has ended now: `ask`, with `retrieve`, `prompt` (until the first piece) and `generate`."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        ended = time.time_ns()
        carrier = {"traceparent": walk.traceparent} if walk.traceparent else {}
        root = self._tracer.start_span(
            "ask",
            TraceContextTextMapPropagator().extract(carrier),
            SpanKind.SERVER,
            {
                "lorebase.request_id": walk.request_id,
                "lorebase.tenant_hash": hashlib.sha256(walk.tenant_id.encode()).hexdigest()[:16],
                "lorebase.adapter": adapter,
                "lorebase.outcome": outcome,
                **attributes,
            },
            start_time=walk.began,
        )
        if outcome == "failed":
            root.set_status(StatusCode.ERROR)
        below = set_span_in_context(root)
        for name, start, end in _stages(walk, ended):
            self._tracer.start_span(name, below, start_time=start).end(end)
        root.end(ended)

    def close(self) -> None:
        """Send what waits, and stop."""
        self._provider.shutdown()


def _stages(walk: Walk, ended: int) -> list[tuple[str, int, int]]:
    """The stages that were reached, each with its beginning and end."""
    stages = [("retrieve", walk.began, walk.retrieved or ended)]
    if walk.retrieved is not None:
        stages.append(("prompt", walk.retrieved, walk.first_piece or ended))
    if walk.first_piece is not None:
        stages.append(("generate", walk.first_piece, ended))
    return stages
