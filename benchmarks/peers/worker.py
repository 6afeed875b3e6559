"""What every peer's process shares: it reads one order a line, as JSON, and answers one line of JSON.

The first line is the job. Of ``kind`` ``ingest`` (`IngestJob`): afterwards ``{"way": "default"}`` and ``"tuned"`` do
the whole work anew, and ``"encode"`` embeds the same texts by a bare ``SentenceTransformer.encode``; each answers the
seconds it took. Of ``kind`` ``answer`` (`AnswerJob`): afterwards ``{"what": "search" or "ask", "way": …, "questions":
…, "at_once": …}`` answers the seconds of all and of each, and what was found or said.
Needs nothing but the standard library until a peer is imported, since each runs in another environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class IngestJob:
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


@dataclass(frozen=True)
class AnswerJob:
    """What is to be searched and asked about.

    Attributes:
        searched: texts that are searched, each a document.
        asked: texts that a language model answers from, each a document.
        model: the folder of the sentence-transformers model.
        language_model: the folder of the language model.
        message: how it is asked, with ``{sources}`` and ``{question}``; a source is ``[n] text``, one a line.
        prompt: the same in the chat form of the model.
        count: how many texts are looked for.
        longest: tokens of an answer at most.
        batch: texts in one batch of the encoder when tuned.
    """

    searched: list[str]
    asked: list[str]
    model: str
    language_model: str
    message: str
    prompt: str
    count: int
    longest: int
    batch: int


Ingest = Callable[[], list[str]]
"""Splits, embeds and stores all documents in a fresh store; the texts that were embedded."""
Search = Callable[[str], list[int]]
"""The numbers of the texts that fit a question best, best first."""
Ask = Callable[[str], str]
"""An answer from the texts that fit a question best."""


def serve(
    ingesting: Callable[[IngestJob, bool], Ingest],
    searching: Callable[[AnswerJob, list[str], bool], Search],
    asking: Callable[[AnswerJob, bool], Ask],
) -> None:
    """Answer orders until the input ends.

    Args:
        ingesting: loads the model once, tuned or as the peer's documentation shows it; what it returns is timed.
        searching, asking: store texts, likewise.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    given = json.loads(sys.stdin.readline())
    if given.pop("kind") == "ingest":
        do, facts = _ingestion(IngestJob(**given), ingesting)
    else:
        do, facts = _answering(AnswerJob(**given), searching, asking)
    _answer(answers, facts)
    for order in sys.stdin:
        _answer(answers, do(json.loads(order)))


def numbered(texts: list[str]) -> str:
    """Texts as the sources of a prompt."""
    return "\n".join(["<sources>", *(f"[{n}] {text}" for n, text in enumerate(texts, start=1)), "</sources>"])


def _ingestion(job: IngestJob, ingesting: Callable[[IngestJob, bool], Ingest]) -> tuple[Any, dict[str, Any]]:
    ways = {"default": ingesting(job, False), "tuned": ingesting(job, True)}
    ways["default"]()  # warms everything up
    texts = ways["tuned"]()
    ways["encode"] = _bare_encode(job, texts)

    def do(order: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        ways[order["way"]]()
        return {"seconds": time.perf_counter() - began}

    return do, {"chunks": len(texts), "characters": sum(map(len, texts))}


def _bare_encode(job: IngestJob, texts: list[str]) -> Ingest:
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(job.model, device="cpu")
    model.encode(["warm"])

    def encode() -> list[str]:
        model.encode(texts, batch_size=job.batch, normalize_embeddings=True, show_progress_bar=False)
        return texts

    return encode


def _answering(
    job: AnswerJob,
    searching: Callable[[AnswerJob, list[str], bool], Search],
    asking: Callable[[AnswerJob, bool], Ask],
) -> tuple[Any, dict[str, Any]]:
    ways: dict[tuple[str, str], Callable[[str], Any]] = {}
    for way, tuned in (("default", False), ("tuned", True)):
        ways["search", way] = searching(job, job.searched, tuned)
        ways["ask", way] = asking(job, tuned)
    for one in ways.values():
        one("warm")

    def do(order: dict[str, Any]) -> dict[str, Any]:
        one = ways[order["what"], order["way"]]

        def timed(question: str) -> tuple[float, Any]:
            began = time.perf_counter()
            found = one(question)
            return time.perf_counter() - began, found

        began = time.perf_counter()
        with ThreadPoolExecutor(order["at_once"]) as pool:
            done = list(pool.map(timed, order["questions"]))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "each": [each for each, _ in done], "found": [found for _, found in done]}

    return do, {}


def _answer(answers: Any, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()
