"""What every peer's process shares: it reads one order a line and answers one line of JSON.

The first line is the job (`Job`, as JSON). Afterwards ``default`` and ``tuned`` do the whole work anew, and ``encode``
embeds the same texts by a bare ``SentenceTransformer.encode``. Each answers the seconds it took.
Needs nothing but the standard library until a peer is imported, since each runs in another environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """What is to be ingested.

    Attributes:
        documents: titles and texts.
        model: the folder of the sentence-transformers model.
        size: longest chunk, in characters.
        batch: texts in one batch of the encoder when tuned.
    """

    documents: list[tuple[str, str]]
    model: str
    size: int
    batch: int


Ingest = Callable[[], list[str]]
"""Splits, embeds and stores all documents in a fresh store; the texts that were embedded."""


def serve(prepare: Callable[[Job, bool], Ingest]) -> None:
    """Answer orders until the input ends.

    Args:
        prepare: loads the model once, tuned or as the peer's documentation shows it; what it returns is timed.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    given = json.loads(sys.stdin.readline())
    job = Job([(title, text) for title, text in given["documents"]], given["model"], given["size"], given["batch"])
    ways = {"default": prepare(job, False), "tuned": prepare(job, True)}
    ways["default"]()  # warms everything up
    texts = ways["tuned"]()
    bare = _bare_encode(job, texts)
    _answer(answers, {"chunks": len(texts), "characters": sum(map(len, texts))})
    for order in sys.stdin:
        began = time.perf_counter()
        ways.get(order.strip(), bare)()
        _answer(answers, {"seconds": time.perf_counter() - began})


def _bare_encode(job: Job, texts: list[str]) -> Ingest:
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(job.model, device="cpu")
    model.encode(["warm"])

    def encode() -> list[str]:
        model.encode(texts, batch_size=job.batch, normalize_embeddings=True, show_progress_bar=False)
        return texts

    return encode


def _answer(answers: Any, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()
