"""What the service counts and measures, as Prometheus reads it.

Labels are few and bounded: route templates and not paths, and no tenant's name. What changes by itself (queue, memory)
is looked up when it is asked for. Knows the engine seam; knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters import Engine

Outcome = Literal["answered", "abstained", "failed", "cancelled"]
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
NO_ROUTE = "none"
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and histograms of one service.

    Args:
        engine: asked for its status whenever the metrics are.
        ready: whether questions can be answered now.
    """

    def __init__(self, engine: Engine, ready: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_EngineCollector(engine, ready))
        self._requests = self._counter("http_requests", "Requests answered.", "method", "route", "status")
        self._request_seconds = self._histogram("http_request_seconds", "From head to end of response.", "route")
        self._asks = self._counter("asks", "Questions, by how they ended.", "outcome")
        self._stages = self._histogram("ask_stage_seconds", "Stages of an answer.", "stage")
        self._tokens = self._counter("tokens", "Tokens read and written for answers.", "kind")

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended.

        Args:
            route: the template of its path, or `NO_ROUTE`.
        """
        self._requests.labels(method if method in _METHODS else "OTHER", route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def ask(
        self, outcome: Outcome, timings_ms: Mapping[str, float], prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> None:
        """Count a question that has ended.

        Args:
            timings_ms: milliseconds by stage.
        """
        self._asks.labels(outcome).inc()
        for stage, milliseconds in timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._tokens.labels("prompt").inc(prompt_tokens)
        self._tokens.labels("completion").inc(completion_tokens)

    def register(self, collector: Collector) -> None:
        """Show what a further collector finds whenever the metrics are asked for."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """Everything in Prometheus' text format, `TEXT_FORMAT`."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"lorebase_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"lorebase_{name}", text, labels, buckets=_SECONDS, registry=self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine, ready: Callable[[], bool]) -> None:
        self._engine = engine
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        status, memory = self._engine.status(), self._engine.adapter_memory()
        yield gauge("ready", "Whether questions can be answered now.", int(self._ready()))
        rows = GaugeMetricFamily("lorebase_engine_rows", "Questions in the engine.", labels=["state"])
        rows.add_metric(["waiting"], status.waiting)
        rows.add_metric(["running"], status.running)
        yield rows
        yield _count("engine_steps", "Batches computed.", status.steps)
        yield _count("engine_step_rows", "Rows of all batches; by steps: the mean batch size.", status.step_rows)
        yield gauge("engine_kv_bytes", "Keys and values held for questions under way.", status.kv_bytes)
        yield gauge("engine_kv_budget_bytes", "Their limit.", status.kv_budget_bytes)
        yield gauge("adapters_resident", "Adapters in memory.", len(memory.resident))
        yield gauge("adapters_resident_bytes", "Bytes they hold.", sum(memory.resident.values()))
        yield gauge("adapters_budget_bytes", "Their limit.", memory.budget_bytes)
        yield gauge("adapters_loading", "Adapters on their way into memory.", len(memory.loading))
        yield _count("adapter_loads", "Adapters read from disk.", memory.loads)
        yield _count("adapter_load_seconds", "Time that these loads took.", memory.load_seconds)
        yield _count("adapter_hits", "Adapters that were in memory when a question asked for them.", memory.hits)
        yield _count("adapter_evictions", "Adapters that made room for others.", memory.evictions)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels, in this service's namespace."""
    return GaugeMetricFamily(f"lorebase_{name}", text, value=value)


def _count(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"lorebase_{name}", text, value=value)
