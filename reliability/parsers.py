"""Everything that reads what a client wrote: files of every format, the filter language, ways of splitting, headers.

Hypothesis makes small files, each wrong in a few places, and conditions, options and headers near the right ones. A
file gives a text with exact offsets, or a reason; a request an answer below 500; nothing hangs or ends the reader.
"""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.local_server import LocalServer
from ingest.errors import UnreadableDocument
from ingest.parsing import ParsedDocument, ParserProcess
from ingest.splitting import Method, SplitConfig, split
from reliability.outcome import Outcome
from reliability.raw_http import answered
from reliability.samples import CHANGES, Change, mutated, samples

_PARSE_SECONDS = 20.0
_PATIENCE_S = 60.0
_METHODS: tuple[Method, ...] = ("character", "recursive", "document", "semantic")
_FORBIDDEN = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]|\r")
_GIVEN_UP = ("took longer", "broke the reader", "more memory")
_VAGUE = "of an unknown variant"
_JOINED = ("and", "or", "not")
_FIELDS = ("year", "tags", "document.title", "document.id", "document.created_at", *_JOINED, "", "a.b", "é")
_OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "exists", "like", "")
_HEADERS = (
    "X-Adapter", "Idempotency-Key", "X-Request-ID", "Last-Event-ID", "Content-Type", "Accept", "Accept-Language",
    "Range", "If-None-Match", "Content-Encoding", "Expect", "Cookie", "Host", "X-Forwarded-For", "Authorization",
)  # fmt: skip


def run(server: LocalServer, *, seed: int = 1, files: int = 2000, conditions: int = 1000, heads: int = 1000) -> Outcome:
    """Try them.

    Args:
        files: so many files to the reader; a tenth as many over HTTP.
        conditions: so many filters, and a tenth as many ways of splitting.
        heads: so many requests with such headers.
    """
    outcome = Outcome()
    outcome.figures |= dict.fromkeys(("texts", "reasons", "vague_reasons", "filters", "filters_refused"), 0)
    _read_files(outcome, seed, files)
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    tenant = httpx.post(f"{server.url}/tenants", json={"name": f"parsers {uuid.uuid4().hex[:8]}"}, headers=headers)
    key = tenant.raise_for_status().json()["api_key"]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=_PATIENCE_S) as client:
        _send_files(client, outcome, seed, max(1, files // 10))
        _filter(client, outcome, seed, conditions)
        _split_over_http(client, outcome, seed, max(1, conditions // 10))
        _send_heads(server, key, client, outcome, seed, heads)
        outcome.check(client.get("/readyz").status_code == 200, "the service is not ready afterwards")
    return outcome


_integers = st.integers(0, 2**16)
_changes = st.lists(st.builds(Change, st.sampled_from(sorted(CHANGES)), _integers, _integers), min_size=1, max_size=5)
_inside = st.none() | st.integers(0, 30)


def _each(seed: int, examples: int, strategy: st.SearchStrategy[Any], one: Callable[[Any], None]) -> None:
    """Call ``one`` with so many examples, the same ones for the same seed."""

    @seeded(seed)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def each(example: Any) -> None:
        one(example)

    each()


def _read_files(outcome: Outcome, seed: int, examples: int) -> None:
    """Every file gives a text whose parts lie where they are said to, or a reason."""
    there = samples()
    parser = ParserProcess(timeout_seconds=_PARSE_SECONDS)

    def one(example: tuple[str, str, list[Change], int | None, Method, int]) -> None:
        name, shown, changes, inside, method, size = example
        what = f"{name} as {shown}, {changes}, inside {inside}"
        began = time.perf_counter()
        try:
            document = parser.parse(shown, mutated(there[name], changes, inside))
        except UnreadableDocument as error:
            outcome.figures["reasons"] += 1
            outcome.figures["vague_reasons"] += _VAGUE in str(error)
            given_up = any(words in str(error) for words in _GIVEN_UP)
            outcome.check(str(error) and len(str(error)) < 1000 and not given_up, f"{what}: {error}")
        else:
            outcome.figures["texts"] += 1
            wrong = _misplaced(document) or _badly_split(document, method, size)
            outcome.check(not wrong, f"{what}: {wrong}")
        outcome.largest("slowest_file_s", time.perf_counter() - began)

    try:
        for name, content in there.items():
            wrong = _misplaced(parser.parse(name, content))
            outcome.check(not wrong, f"{name}: {wrong}")
        names = sorted(there)
        shown = st.sampled_from(names) | st.just("a")
        mostly = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), st.just(name) | shown))
        rest = st.tuples(_changes, _inside, st.sampled_from(_METHODS), st.sampled_from((100, 300, 1000)))
        _each(seed, examples, st.tuples(mostly, rest).map(lambda two: (*two[0], *two[1])), one)
    finally:
        parser.close()


def _misplaced(document: ParsedDocument) -> str | None:
    """What is wrong with a document's text or its parts; None when nothing is."""
    text, size = document.text, len(document.text)
    if not text.strip():
        return "a text that is blank"
    if found := _FORBIDDEN.search(text):
        return f"a character that is none: {found[0]!r}"
    for heading in document.headings:
        line = text[heading.start :].partition("\n")[0]
        begins = 0 <= heading.start < size and text[: heading.start].rpartition("\n")[2].strip() == ""
        if not begins or not set(re.findall(r"\w+", heading.title)) <= set(re.findall(r"\w+", line)):
            return f"{heading} does not stand there, but {line[:60]!r}"
    ends = [(page.start, page.end) for page in document.pages]
    if any(not 0 <= start <= end <= size for start, end in ends) or ends != sorted(ends):
        return f"pages out of order: {ends[:5]}"
    return None


def _badly_split(document: ParsedDocument, method: Method, size: int) -> str | None:
    """What is wrong with a document's chunks; None when nothing is."""
    done = split(document, SplitConfig(size, method=method), _encode)
    assert done is not None
    text, covered, before = document.text, 0, (-1, -1)
    for chunk in done.chunks:
        if not text[chunk.start : chunk.end].strip() or chunk.end - chunk.start > size or chunk.end > len(text):
            return f"{method}: a chunk that is none: {chunk}"[:300]
        if chunk.start <= before[0] or chunk.end <= before[1] or text[covered : chunk.start].strip():
            return f"{method}: chunks out of order, or with a gap before: {chunk}"[:300]
        before, covered = (chunk.start, chunk.end), chunk.end
    return f"{method}: the end is in no chunk" if text[covered:].strip() else None


def _encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that are near where texts have letters in common: float32 ``[len(texts), 32]``."""
    vectors = np.zeros((len(texts), 32), dtype=np.float32)  # [n, d]
    for row, text in enumerate(texts):
        for character in text[:200]:
            vectors[row, ord(character) % 32] += 1
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)  # [n, d]
    return vectors


def _send_files(client: httpx.Client, outcome: Outcome, seed: int, examples: int) -> None:
    """The same over HTTP: each file is read or fails with a reason, and its chunks are cut from its text."""
    there = samples()

    def one(example: tuple[str, list[Change], int | None]) -> None:
        name, changes, inside = example
        what = f"{name}, {changes}, inside {inside}, sent"
        files = [("files", (name, mutated(there[name], changes, inside)))]
        sent = client.post("/ingest", params={"wait": "true"}, files=files)
        if not outcome.check(sent.status_code in (200, 422), f"{what}: {sent.status_code} {sent.text[:300]}"):
            return
        for document in {each["id"]: each for each in sent.json().get("documents", ())}.values():
            path = f"/documents/{document['id']}"
            if document["status"] == "failed":
                outcome.check(document["error"], f"{what}: failed without a reason")
            elif outcome.check(document["status"] == "ready", f"{what}: {document}"):
                text = client.get(f"{path}/text").raise_for_status().text
                chunks = client.get(f"{path}/chunks", params={"limit": 1000}).raise_for_status().json()["chunks"]
                exact = all(chunk["text"] == text[chunk["start"] : chunk["end"]] for chunk in chunks)
                outcome.check(exact and chunks, f"{what}: chunks that are not of the text")
            client.delete(path).raise_for_status()

    _each(seed, examples, st.tuples(st.sampled_from(sorted(there)), _changes, _inside), one)


_scalars = st.sampled_from([2020, 2023, "a", "lamp", True, None, 1, 1.0, "1"]) | st.text(max_size=3)
_comparisons = st.sampled_from(["gt", "gte", "lt", "lte"])
_tests = (
    _scalars | st.fixed_dictionaries({}, optional={"eq": _scalars, "ne": _scalars, "exists": st.booleans()})
    | st.dictionaries(_comparisons, st.integers(2019, 2024) | st.text(max_size=2), min_size=1, max_size=2)
    | st.fixed_dictionaries({"in": st.lists(_scalars, max_size=3)})
)  # fmt: skip
_right = st.recursive(
    st.dictionaries(st.sampled_from([name for name in _FIELDS if name not in _JOINED]), _tests, min_size=1, max_size=2),
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda some: st.sampled_from([{"and": some}, {"or": some}, {"not": some[0]}])
    ),
    max_leaves=8,
)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*_FIELDS, *_OPERATORS)) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
_conditions = _right | _right | _anything


def _filter(client: httpx.Client, outcome: Outcome, seed: int, examples: int) -> None:
    """A filter and its contrary part the documents between them, or both are refused alike."""
    metadata = [{"year": 2020, "tags": ["a", 1]}, {"year": "2023", "tags": []}, {"year": None}, {"tags": [None, True]}]
    metadata += [{"year": 2023.5, "a.b": {"c": 1}}, {}, {"year": True, "é": "1"}, {"year": [2020, "lamp"]}]
    texts = [{"text": f"A lamp of kind {n}.", "metadata": each} for n, each in enumerate(metadata)]
    sent = client.post("/ingest", params={"wait": "true"}, json={"documents": texts}).raise_for_status().json()
    every = {each["id"] for each in sent["documents"]}

    def found(condition: Any) -> set[str] | None:
        body = json.dumps({"query": "a lamp", "top_k": 50, "filter": condition})
        answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
        said = f"{condition!r}: {answer.status_code} {answer.text[:200]}"
        outcome.check(answer.status_code in (200, 422), said)
        if answer.status_code == 200:
            return {passage["document_id"] for passage in answer.json()["passages"]}
        outcome.check(answer.headers["content-type"] == "application/problem+json", said)
        return None

    def one(condition: Any) -> None:
        those = found(condition)
        outcome.figures["filters" if those is not None else "filters_refused"] += 1
        if those is not None and condition:
            others = found({"not": condition})
            whole = others is None or (not those & others and those | others == every)  # it may be too deep by one
            outcome.check(whole, f"{condition!r}: {len(those)} and {len(others or ())} of {len(every)} documents")

    _each(seed, examples, _conditions, one)
    for document_id in every:
        client.delete(f"/documents/{document_id}").raise_for_status()


def _split_over_http(client: httpx.Client, outcome: Outcome, seed: int, examples: int) -> None:
    """Ways of splitting that are none are refused, others done."""
    text = (Path(__file__).parent.parent / "examples" / "documents" / "annual-report.md").read_text()
    methods = st.sampled_from([*_METHODS, "agentic", "none", "", None, 3])
    numbers = st.integers(-2, 9000) | st.sampled_from([0, 100, 101, 8000, 10**30, 1.5, True, None, "100"])
    ways = methods | st.fixed_dictionaries({"method": methods}, optional={"size": numbers, "overlap": numbers})

    def one(way: Any) -> None:
        body = {"documents": [{"text": text}], "split": way}
        sent = client.post("/ingest", params={"wait": "true"}, json=body)
        outcome.check(sent.status_code in (200, 422), f"split {way!r}: {sent.status_code} {sent.text[:300]}")
        for document in sent.json().get("documents", ()):
            outcome.check(document["status"] == "ready", f"split {way!r}: {document}")
            client.delete(f"/documents/{document['id']}").raise_for_status()

    _each(seed, examples, ways, one)


def _send_heads(
    server: LocalServer, key: str, client: httpx.Client, outcome: Outcome, seed: int, examples: int
) -> None:
    """Headers of any bytes: an answer below 500, within its time."""
    sent = client.post("/ingest", params={"wait": "true"}, json={"documents": [{"text": "A lamp turns."}]})
    job, document = sent.json()["job_id"], sent.json()["documents"][0]["id"]
    ask = b'{"question": "What turns?", "stream": true}'
    requests = [
        (f"GET /jobs/{job}/events", b""), ("POST /ask", ask), ("GET /livez", b""),
        (f"GET /documents/{document}/text", b""),
        ("POST /ingest", b'{"documents": [{"text": "A lamp turns again."}]}'), ("GET /jobs?limit=", b""),
    ]  # fmt: skip
    values = st.binary(max_size=40) | st.sampled_from(
        [b"", b" ", b"base", b"base@1", b"own@99999999999999999999", b"a" * 9000, b"bytes=0-,-1", "é".encode(), b"\xff",
         b"multipart/form-data; boundary=", b"application/json; charset=utf-7", b"100-continue", b"gzip", b"Bearer ",
         b"text/event-stream;q=nan", b"W/\"", b"-1", b"=?"]
    )  # fmt: skip
    heads = st.tuples(
        st.sampled_from(requests), st.lists(st.tuples(st.sampled_from(_HEADERS), values), min_size=1, max_size=3)
    )

    def one(example: tuple[tuple[str, bytes], list[tuple[str, bytes]]]) -> None:
        (request, body), headers = example
        began = time.perf_counter()
        status = _answered(server, key, request, body, headers)
        outcome.largest("slowest_request_s", time.perf_counter() - began)
        outcome.check(status in (b"", *_BELOW), f"{request} with {headers}: {status!r}")

    _each(seed, examples, heads, one)
    outcome.check(client.get("/livez").status_code == 200, "/livez after such headers")


_BELOW = tuple(str(status).encode() for status in (100, *range(200, 500)))


def _answered(server: LocalServer, key: str, request: str, body: bytes, headers: list[tuple[str, bytes]]) -> bytes:
    """The status of the answer; empty where the connection is closed without one."""
    where = urlsplit(server.url)
    given = {name.lower() for name, _ in headers}
    lines = [f"{request} HTTP/1.1".encode(), b"Connection: close", b"Content-Length: %d" % len(body)]
    if "host" not in given:
        lines.append(b"Host: x")
    if "authorization" not in given:
        lines.append(f"Authorization: Bearer {key}".encode())
    if "content-type" not in given:
        lines.append(b"Content-Type: application/json")
    lines += [name.encode() + b": " + value for name, value in headers]
    with socket.create_connection((where.hostname, where.port), timeout=_PATIENCE_S) as connection:
        return answered(connection, b"\r\n".join([*lines, b"", body]))
