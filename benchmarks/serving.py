"""Questions to a real server while a training runs in it and while none does, in turn.

Knows the HTTP API; `benchmarks.training` reports what it finds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np

from adapters.squad import Question
from app.local_server import local_server

_PARAGRAPHS = 40
_WARM_UP = 10


@dataclass(frozen=True, slots=True)
class ServingRatios:
    """Latency of a question while a training runs over that without one: of each turn's median and 95th percentile."""

    p50: list[float]
    p95: list[float]
    alone_ms: float


def serving_ratios(questions: Sequence[Question], turns: int, asked: int) -> ServingRatios:
    """Measure: in every turn so many questions, one after the other, with and without a training that has begun its
    steps; the turns begin with one and the other by turns."""
    with local_server() as server:
        headers = {"Authorization": f"Bearer {server.default_key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=300) as client:
            _fill(client, questions)
            texts = [question.question for question in questions[: max(asked, _WARM_UP)]]
            _ask(client, texts[:_WARM_UP])
            busy: list[list[float]] = []
            idle: list[list[float]] = []
            for turn in range(turns):
                for training in (True, False) if turn % 2 else (False, True):
                    job = _begin_training(client) if training else None
                    (busy if training else idle).append(_ask(client, texts[:asked]))
                    if job is not None:
                        client.post(f"/jobs/{job}/cancel").raise_for_status()
    return ServingRatios(
        [statistics.median(b) / statistics.median(i) for b, i in zip(busy, idle, strict=True)],
        [float(np.percentile(b, 95) / np.percentile(i, 95)) for b, i in zip(busy, idle, strict=True)],
        statistics.median(ms for turn in idle for ms in turn),
    )


def _fill(client: httpx.Client, questions: Sequence[Question]) -> None:
    """Ingest paragraphs and store a set to train on."""
    contexts = list(dict.fromkeys(question.context for question in questions))[:_PARAGRAPHS]
    documents = [{"title": f"Paragraph {n}", "text": text} for n, text in enumerate(contexts)]
    client.post("/ingest", params={"wait": "true"}, json={"documents": documents}).raise_for_status()
    lines = [
        json.dumps({"question": q.question, "answer": q.answers[0].text, "passage": q.context})
        for q in questions
        if q.answers
    ]
    sent = client.post("/datasets", files={"file": ("set.jsonl", "\n".join(lines).encode())}, data={"name": "bench"})
    sent.raise_for_status()


def _ask(client: httpx.Client, texts: Sequence[str]) -> list[float]:
    """Milliseconds of each question. Passages differ from turn to turn in nothing, so a turn repeats the same work."""
    found = []
    for text in texts:
        began = time.perf_counter()
        client.post("/ask", json={"question": text}).raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
    return found


def _begin_training(client: httpx.Client) -> str:
    """A training that has taken its first step; its job."""
    started = client.post("/adapters/bench/train", json={"dataset": "bench", "epochs": 1000}).raise_for_status().json()
    job: str = started["id"]
    while not client.get(f"/jobs/{job}/loss").json()["points"]:
        state = client.get(f"/jobs/{job}").json()
        if state["state"] not in ("queued", "running"):
            raise SystemExit(f"the training {state['state']}: {state['error']}")
        time.sleep(0.2)
    return job
