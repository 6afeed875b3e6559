"""Many tenants ask at once, one of them far more than all others together.

The greedy one is refused first, with 429 and `Retry-After`, and comes again when it was told to; the others are never
refused, and wait at most twice as long as without it; `/livez` answers within a second; the engine never holds more
than it may; no answer holds another tenant's words.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import resource
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from app.local_server import LocalServer, local_server
from reliability.outcome import NotPossible, Outcome

_AT_ONCE = 2  # questions of each tenant that is not greedy
_FILES = 4096
_SLOWER = 2.0


@dataclass(frozen=True, slots=True)
class _Tenant:
    key: str
    word: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_seconds: int | None
    body: str
    seconds: float


def run(*, seed: int = 1, asks: int = 1000, tenants: int = 50, rounds: int = 20, timed: bool = True) -> Outcome:
    """Have all tenants but one ask, then the same beside the greedy one, and compare. Nothing is left to chance.

    Args:
        asks: questions on their way at the same time, those of the others among them.
        rounds: questions that each of the others asks one after the other, in either part, after one to warm up.
        timed: hold the others' times against each other, which a machine that does other things would falsify.
    """
    outcome = Outcome()
    others_at_once = _AT_ONCE * (tenants - 1)
    bound = 2 * others_at_once + 8  # a greedy one that has all it may leaves them room
    with _many_files(), local_server(environment={"LOREBASE_MAX_WAITING": str(bound)}) as server:
        everyone = [_tenant(server) for _ in range(tenants)]
        words = {tenant.word for tenant in everyone}
        with _watched(server, bound, outcome):
            storm = _Storm(server, everyone, words, outcome)
            asyncio.run(storm.others(1))
            calm = asyncio.run(storm.others(rounds))
            beside = asyncio.run(storm.with_greedy(asks - others_at_once, rounds))
    before, during = _p95(calm), _p95(beside)
    outcome.figures |= {
        "calm_p95_s": round(before, 2),
        "beside_p95_s": round(during, 2),
        "slower": round(during / before, 2),
        "beside_worst_s": round(max(beside), 2),
        "greedy_served": storm.served,
        "greedy_refused": storm.refused,
    }
    outcome.check(storm.refused, "the greedy tenant was never refused: nothing was tried")
    outcome.check(storm.served, "the greedy tenant was never served")
    if timed:
        outcome.check(during <= _SLOWER * before, f"the others waited too long: {outcome.figures}")
    return outcome


class _Storm:
    """What is asked of a server by tenants, of whom the first is the greedy one."""

    def __init__(self, server: LocalServer, everyone: list[_Tenant], words: set[str], outcome: Outcome) -> None:
        self._where = urlsplit(server.url)
        self._greedy, *self._others = everyone
        self._words = words
        self._outcome = outcome
        self.served = self.refused = 0
        self._numbers = itertools.count(1)

    async def others(self, rounds: int) -> list[float]:
        """Seconds of each of their questions."""
        found = await asyncio.gather(*(self._in_a_row(each, rounds) for each in self._others for _ in range(_AT_ONCE)))
        return [seconds for one in found for seconds in one]

    async def with_greedy(self, at_once: int, rounds: int) -> list[float]:
        """The same, once the greedy one has asked so many at once."""
        over = asyncio.Event()
        greedy = [asyncio.ensure_future(self._again_and_again(over)) for _ in range(at_once)]
        await asyncio.sleep(0)  # all of them have begun
        seconds = await self.others(rounds)
        over.set()
        await asyncio.gather(*greedy)
        return seconds

    async def _in_a_row(self, tenant: _Tenant, rounds: int) -> list[float]:
        answers = [await self._ask(tenant) for _ in range(rounds)]
        for answer in answers:
            self._outcome.check(
                answer.status == 200, f"another tenant was refused: {answer.status} {answer.body[:200]}"
            )
        return [answer.seconds for answer in answers]

    async def _again_and_again(self, over: asyncio.Event) -> None:
        """Ask until it is over, after a refusal when it was said to."""
        while not over.is_set():
            answer = await self._ask(self._greedy)
            if answer.status == 200:
                self.served += 1
                continue
            self.refused += 1
            told = answer.retry_seconds
            if not self._outcome.check(answer.status == 429 and told, f"{answer.status} {answer.body[:200]}"):
                return
            self._outcome.largest("retry_after_s", told or 0)
            try:
                await asyncio.wait_for(over.wait(), told)
            except TimeoutError:
                continue

    async def _ask(self, tenant: _Tenant) -> _Answer:
        """Ask on a connection of its own, and look at every word of the answer."""
        question = f"What does the lamp of the tower say in night {next(self._numbers)}?"  # none is known already
        sent = json.dumps({"question": question, "min_confidence": 0})
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(self._where.hostname, self._where.port)
        head = (
            f"POST /ask HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {tenant.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        try:
            writer.write((head + sent).encode())
            said, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
        seconds = time.perf_counter() - began
        told = re.search(r"^retry-after: (\d+)\r?$", said, re.MULTILINE | re.IGNORECASE)
        answer = _Answer(int(said.split(" ", 2)[1]), int(told[1]) if told else None, body, seconds)
        found = {word for word in self._words if word in body}
        wanted = {tenant.word} if answer.status == 200 else set()
        self._outcome.check(found == wanted, f"words of {found} and not of {wanted}: {answer.status} {body[:200]}")
        return answer


@contextmanager
def _watched(server: LocalServer, bound: int, outcome: Outcome) -> Iterator[None]:
    """Look all the while whether the server is alive and holds no more questions than it may."""
    ended = threading.Event()

    def watch() -> None:
        admin = {"Authorization": f"Bearer {server.admin_key}"}
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not ended.wait(0.2):
                began = time.perf_counter()
                alive = client.get("/livez").status_code == 200
                seconds = time.perf_counter() - began
                outcome.largest("livez_s", seconds)
                outcome.check(alive and seconds < 1, f"/livez beside them: {seconds:.2f} s")
                told = client.get("/metrics", headers=admin).text
                rows = sum(map(float, re.findall(r'^lorebase_engine_rows\{state="\w+"\} (\S+)$', told, re.MULTILINE)))
                outcome.largest("engine_rows", rows)
                outcome.check(rows <= bound, f"{rows} questions in the engine, {bound} may be")

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


@contextmanager
def _many_files() -> Iterator[None]:
    """Let this process and those it starts have a connection for each question."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        raise NotPossible(f"this user may not have {_FILES} files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _FILES), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _tenant(server: LocalServer) -> _Tenant:
    """A tenant with a document of its own word."""
    word = f"word{uuid.uuid4().hex[:12]}"
    with httpx.Client(base_url=server.url, timeout=60) as client:
        admin = {"Authorization": f"Bearer {server.admin_key}"}
        made = client.post("/tenants", json={"name": word}, headers=admin).raise_for_status().json()
        text = f"The lamp of the tower says {word} to the ships."
        own = {"Authorization": f"Bearer {made['api_key']}"}
        sent = client.post("/ingest", params={"wait": "true"}, json={"documents": [{"text": text}]}, headers=own)
        sent.raise_for_status()
    return _Tenant(made["api_key"], word)


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))]
