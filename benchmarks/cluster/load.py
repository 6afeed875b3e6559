"""Clients of two tenants that ask and write without pause, and what they hold every answer against.

The documents that are asked about never change, so what each question is answered on each adapter version is known
beforehand, word for word. Other documents are written meanwhile; what was acknowledged is looked for at the end. A
client goes to either replica by chance, and to the other one where the first cannot be reached or answers 503, as a
load balancer does.
Knows the HTTP API; knows no processes and no faults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.engine import AdapterRef
from examples.small_lm.world import Difficulty, draw_lesson

Kind = Literal["question", "document"]
Outcome = Literal["answered", "busy", "unreachable", "other"]
ADAPTER = "voice"
_ON = ("base", f"{ADAPTER}@1", f"{ADAPTER}@2")
_LESSONS = 3
_ASKED = "asked"  # the collection that stays as it is
_WRITTEN = "written"
_PAUSE_SECONDS: Mapping[Kind, float] = {"question": 0.1, "document": 0.8}
_TIMEOUT = httpx.Timeout(60.0, connect=2.0)
_LONGEST_WAIT_SECONDS = 1.0
_REPLACED_SHARE = 0.3
_READY_SECONDS = 120.0
_LONGEST_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one replica. ``busy`` is 503 with Retry-After; ``unreachable`` is no response at all."""

    kind: Kind
    began: float
    ended: float
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client wanted, with the attempts it took: whether it got it."""

    kind: Kind
    began: float
    ended: float
    done: bool


@dataclass
class Written:
    """A document that was acknowledged: texts that it may have now.

    One, unless a replacement ended without an answer: then it may have been made or not.
    """

    id: str
    word: str
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says, as far as it must be the same every time."""

    answer: str
    adapter: tuple[str, int] | None
    documents: tuple[str, ...]
    quotes: tuple[str, ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Told:
        used = body["adapter"]
        passages = body["passages"]
        return cls(
            body["answer"],
            (used["name"], used["version"]) if used else None,
            tuple(passage["document_id"] for passage in passages),
            tuple(citation["quote"] for citation in body["citations"]),
        )


def wrong_with(told: Told, expected: Told, own: frozenset[str]) -> str | None:
    """What is wrong with an answer; None: nothing.

    Args:
        own: ids of the documents that the tenant has.
    """
    if not set(told.documents) <= own:
        return "a passage of another tenant"
    if told.adapter != expected.adapter:
        return f"answered on {told.adapter}, asked on {expected.adapter}"
    if told != expected:
        return f"{told.answer!r} instead of {expected.answer!r}"
    return None


def lost_of(written: Written, status: str | None, text: str | None, found: bool) -> str | None:
    """How an acknowledged document is lost, by what a replica knows of it; None: it is there and whole."""
    if status is None:
        return "it is not there"
    if status != "ready":
        return f"it is {status}"
    if text not in written.texts:
        return "its text is another one"
    return None if found else "a search does not find it"


@dataclass
class Tenant:
    """A tenant, what it asks, and what it has written."""

    name: str
    key: str
    asked: dict[tuple[str, str], Told] = field(default_factory=dict)  # by question and adapter
    own: frozenset[str] = frozenset()
    written: list[Written] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


Send: TypeAlias = Callable[[httpx.Client], httpx.Response]
Work: TypeAlias = Callable[[Tenant, list[httpx.Client], random.Random], float]


class Load:
    """The clients of some tenants.

    Attributes:
        attempts, operations: all so far, in the order in which they ended.
        wrong: answers that were, and why.
    """

    def __init__(self, urls: Sequence[str], tenants: Sequence[Tenant]) -> None:
        self.attempts: list[Attempt] = []
        self.operations: list[Operation] = []
        self.wrong: list[str] = []
        self._urls, self._tenants = urls, tenants
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(tenant, work, seed), daemon=True)
            for seed, (tenant, work) in enumerate(
                (tenant, work) for tenant in tenants for work in (self._ask, self._ask, self._write)
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self, tenant: Tenant, work: Work, seed: int) -> None:
        clients = [
            httpx.Client(base_url=url, headers=tenant.headers, timeout=_TIMEOUT, trust_env=False) for url in self._urls
        ]
        chance = random.Random(seed)
        while not self._ended.wait(work(tenant, clients, chance)):
            pass
        for client in clients:
            client.close()

    def _ask(self, tenant: Tenant, clients: list[httpx.Client], chance: random.Random) -> float:
        question, adapter = key = chance.choice(list(tenant.asked))
        response, pause = self._operate("question", clients, chance, lambda client: ask(client, question, adapter))
        if response is not None and (wrong := wrong_with(Told.of(response.json()), tenant.asked[key], tenant.own)):
            self.wrong.append(f"{tenant.name}, {adapter}: {wrong}")
        return pause

    def _write(self, tenant: Tenant, clients: list[httpx.Client], chance: random.Random) -> float:
        word = f"{tenant.name}{chance.getrandbits(40):010x}"
        replaced = chance.choice(tenant.written) if tenant.written and chance.random() < _REPLACED_SHARE else None
        text = f"The parcel {word} was handed in on day {chance.randint(1, 365)} by {tenant.name}.\n"
        body = {"documents": [{"title": f"Parcel {word}", "text": text}], "collection": _WRITTEN}
        if replaced is None:
            response, pause = self._operate(
                "document", clients, chance, lambda client: client.post("/ingest", json=body)
            )
            if response is not None:
                tenant.written.append(Written(response.json()["documents"][0]["id"], word, [text]))
            return pause
        text = f"The parcel {replaced.word} was handed on, on day {chance.randint(1, 10**9)}, by {tenant.name}.\n"
        body["documents"] = [{"title": f"Parcel {replaced.word}", "text": text}]
        before, replaced.texts = replaced.texts, [*replaced.texts, text]
        response, pause = self._operate(
            "document", clients, chance, lambda client: client.put(f"/documents/{replaced.id}", json=body)
        )
        if response is not None:
            replaced.texts = [text]
        else:
            replaced.texts = [*before, text]
        return pause

    def _operate(
        self, kind: Kind, clients: Sequence[httpx.Client], chance: random.Random, send: Send
    ) -> tuple[httpx.Response | None, float]:
        """The response of a success, else None; and how long to pause then."""
        began, pause = time.monotonic(), _PAUSE_SECONDS[kind]
        done: httpx.Response | None = None
        for client in chance.sample(clients, len(clients)):
            asked = time.monotonic()
            try:
                response = send(client)
            except httpx.HTTPError as error:
                self.attempts.append(Attempt(kind, asked, time.monotonic(), "unreachable", type(error).__name__))
                continue
            outcome, detail = outcome_of(response)
            self.attempts.append(Attempt(kind, asked, time.monotonic(), outcome, detail))
            if outcome == "answered":
                done, pause = response, _PAUSE_SECONDS[kind]
            elif outcome == "busy":
                pause = min(_LONGEST_WAIT_SECONDS, float(response.headers["retry-after"]))
                continue
            break
        self.operations.append(Operation(kind, began, time.monotonic(), done is not None))
        return done, pause


def outcome_of(response: httpx.Response) -> tuple[Outcome, str]:
    """What a response counts as, and what it said where it is no success."""
    if response.status_code in (200, 202):
        return "answered", ""
    if response.status_code == 503 and "retry-after" in response.headers:
        return "busy", said(response)
    return "other", f"{response.status_code} {said(response)}"


def said(response: httpx.Response) -> str:
    """What an error says: its code and detail, or the begin of whatever it is."""
    try:
        problem = response.json()
        return f"{problem['code']}: {problem['detail']}"[:_LONGEST_DETAIL]
    except (ValueError, KeyError, TypeError):
        return response.text[:_LONGEST_DETAIL]


def ask(client: httpx.Client, question: str, adapter: str) -> httpx.Response:
    """A question about the documents that stay as they are."""
    body = {"question": question, "collection": _ASKED, "top_k": 3, "max_tokens": 24, "min_confidence": 0.0}
    return client.post("/ask", json=body, headers={"X-Adapter": adapter})


class Unprepared(Exception):
    """What the clients would ask about is not there, or could not show a fault."""


def fine(response: httpx.Response) -> Any:
    """The JSON of a response that must be a success. Raises Unprepared."""
    if response.status_code not in (200, 201, 202):
        raise Unprepared(f"{response.request.url.path} was answered {response.status_code}: {response.text[:500]}")
    return response.json()


def prepare(tenant: Tenant, clients: Sequence[httpx.Client], adapters: Sequence[AdapterRef], seed: int) -> None:
    """Give a tenant its documents and its adapter's versions, and find out what its questions are answered."""
    lessons = [
        draw_lesson(random.Random(seed * 100 + n), Difficulty(sources=2, facts=2, wordings=2, absent=0.0, asked=1))
        for n in range(_LESSONS)
    ]
    passages = {passage.text: passage.title for lesson in lessons for passage in lesson.passages}
    documents = [{"title": title or "untitled", "text": text} for text, title in passages.items()]
    first = clients[0]
    stored = first.post("/ingest", params={"wait": "true"}, json={"documents": documents, "collection": _ASKED})
    tenant.own = frozenset(document["id"] for document in fine(stored)["documents"])
    for adapter in adapters:
        upload(first, adapter.folder)
    for question in (lesson.asked[0].question for lesson in lessons):
        for on in _ON:
            answers = [Told.of(fine(ask(client, question, on))) for client in clients]
            tenant.asked[question, on] = answers[0]
            if any(answer != answers[0] for answer in answers):
                raise Unprepared(f"the replicas answer {question!r} on {on} differently before any fault")
        if len({tenant.asked[question, on].answer for on in _ON}) < len(_ON):
            raise Unprepared(f"{question!r} is answered alike on several versions: none could be taken for another")


def upload(client: httpx.Client, folder: Path) -> None:
    """Register a version of the tenant's adapter."""
    files = [("files", (name, (folder / name).read_bytes())) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    fine(client.post(f"/adapters/{ADAPTER}/versions", files=files))


def look_for(tenant: Tenant, client: httpx.Client) -> list[str]:
    """What of the tenant's acknowledged documents is lost, as one replica sees it, once its work has ended."""
    deadline = time.monotonic() + _READY_SECONDS
    while client.get("/documents", params={"status": "pending", "limit": 1}).raise_for_status().json()["total"]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    lost = []
    for written in tenant.written:
        response = client.get(f"/documents/{written.id}")
        status = response.json()["status"] if response.status_code == 200 else None
        text = client.get(f"/documents/{written.id}/text").text if status is not None else None
        query = {"query": f"parcel {written.word}", "collection": _WRITTEN, "top_k": 5}
        found = client.post("/search", json=query).raise_for_status().json()["passages"]
        reason = lost_of(written, status, text, written.id in {passage["document_id"] for passage in found})
        if reason is not None:
            lost.append(f"{tenant.name}, {written.word}: {reason}")
    return lost


def outages(operations: Sequence[Operation]) -> list[tuple[float, float]]:
    """Spans in which nothing of a kind was done, though it was wanted: from the begin of an operation that failed to
    the end of the first success that began after it. Those of all kinds, merged."""
    spans = []
    for kind in ("question", "document"):
        ordered = sorted((each for each in operations if each.kind == kind), key=lambda each: each.began)
        for number, failed in enumerate(ordered):
            if not failed.done:
                after = [each.ended for each in ordered[number + 1 :] if each.done and each.began >= failed.began]
                spans.append((failed.began, min(after, default=max(each.ended for each in ordered))))
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
