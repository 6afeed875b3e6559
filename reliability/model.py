"""A tenant's life as hypothesis makes it up, beside a model of it in a few dictionaries.

Documents come, are replaced and deleted, one after the other and several at once; an adapter is promoted and rolled
back; after each step the service must have, find and answer with what the model says. What does not agree is shortened
by hypothesis to the fewest steps.
"""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.local_server import LocalServer
from reliability.acknowledged import settle
from reliability.outcome import Outcome

_ADAPTER = Path(__file__).parent.parent / "examples" / "adapters" / "finance"
_AT_ONCE = 4
_VERSIONS = 3
_numbers = itertools.count(random.SystemRandom().getrandbits(40))  # no word comes twice on one server


def run(server: LocalServer, *, seed: int = 1, lives: int = 40, steps: int = 30) -> Outcome:
    """Live so many lives of so many steps, each as a tenant of its own."""
    outcome = Outcome()

    class Life(_Life):
        of_server, counted = server, outcome

    seeded(seed)(Life)
    chosen = settings(
        max_examples=lives, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_state_machine_as_test(Life, settings=chosen)
    except AssertionError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        outcome.check(False, f"{error} (seed {seed})\n{notes}")
    return outcome


class _Life(RuleBasedStateMachine):
    """One tenant. ``texts`` is the model: of each document the word that it holds."""

    of_server: LocalServer
    counted: Outcome

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.gone: dict[str, str] = {}
        self.past: list[int] = []  # active versions, the last one now
        admin = {"Authorization": f"Bearer {self.of_server.admin_key}"}
        with httpx.Client(base_url=self.of_server.url, headers=admin, timeout=60) as client:
            made = client.post("/tenants", json={"name": f"life {next(_numbers)}"}).raise_for_status().json()
        self.client = httpx.Client(
            base_url=self.of_server.url, headers={"Authorization": f"Bearer {made['api_key']}"}, timeout=120
        )

    @initialize()
    def adapters(self) -> None:
        files = [("files", (path.name, path.read_bytes())) for path in sorted(_ADAPTER.glob("adapter_*"))]
        for _ in range(_VERSIONS):
            self.client.post("/adapters/own/versions", files=files).raise_for_status()

    @rule(count=st.integers(1, 3))
    def ingest(self, count: int) -> None:
        self._ingest(count)

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        self._replace(data.draw(st.sampled_from(sorted(self.texts))))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self._delete(data.draw(st.sampled_from(sorted(self.texts))))

    @precondition(lambda self: len(self.texts) > 1)
    @rule(data=st.data())
    def at_once(self, data: st.DataObject) -> None:
        """Several requests that concern different documents, at the same time."""
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.texts)), min_size=2, max_size=_AT_ONCE, unique=True))
        with ThreadPoolExecutor(len(chosen)) as threads:
            works = []
            for document in chosen:
                kind = data.draw(st.sampled_from(("replace", "delete", "ingest")))
                if kind == "ingest":
                    works.append(threads.submit(self._ingest, 1))
                else:
                    works.append(threads.submit(self._replace if kind == "replace" else self._delete, document))
            for work in works:
                work.result()

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def replace_twice_at_once(self, data: st.DataObject) -> None:
        """Of two replacements at the same time one stays, as a whole."""
        document = data.draw(st.sampled_from(sorted(self.texts)))
        words = [_word(), _word()]
        with ThreadPoolExecutor(len(words)) as threads:
            for done in [threads.submit(self._put, document, word) for word in words]:
                done.result()
        settle(self.client)
        text = self.client.get(f"/documents/{document}/text").raise_for_status().text
        kept = [word for word in words if word in text]
        self._hold(len(kept) == 1, f"of two replacements {len(kept)} stayed")
        self.texts[document] = kept[0]

    @rule(version=st.integers(1, _VERSIONS))
    def promote(self, version: int) -> None:
        self.client.post("/adapters/own/promote", json={"version": version}).raise_for_status()
        if not self.past or self.past[-1] != version:
            self.past.append(version)

    @rule()
    def roll_back(self) -> None:
        answered = self.client.post("/adapters/own/rollback")
        if len(self.past) > 1:
            self._hold(answered.status_code == 200, f"a roll-back: {answered.text}")
            self.past.pop()
        else:
            self._hold(answered.status_code == 409, f"a roll-back to nothing: {answered.status_code}")

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        document = data.draw(st.sampled_from(sorted(self.texts)))
        settle(self.client)
        headers = {"X-Adapter": "own"} if self.past else {}
        question = {"question": f"Where does {self.texts[document]} lie?", "min_confidence": 0}
        answer = self.client.post("/ask", json=question, headers=headers).raise_for_status().json()
        self._hold(document in {each["document_id"] for each in answer["passages"]}, f"{document} was not read")
        if self.past:
            self._hold(answer["adapter"]["version"] == self.past[-1], f"{answer['adapter']}, not {self.past[-1]}")

    @precondition(lambda self: self.texts or self.gone)
    @rule(data=st.data())
    def search(self, data: st.DataObject) -> None:
        """A word is found in the document that holds it now, and in none that held it."""
        settle(self.client)
        words = {word: document for document, word in self.texts.items()}
        word = data.draw(st.sampled_from(sorted({*words, *self.gone.values()})))
        found = self.client.post("/search", json={"query": word, "top_k": 20}).raise_for_status().json()["passages"]
        holding = {each["document_id"] for each in found if word in each["text"]}
        self._hold(holding == ({words[word]} if word in words else set()), f"{word} is found in {holding}")

    @invariant()
    def the_list_is_the_models(self) -> None:
        page = self.client.get("/documents", params={"limit": 1000}).raise_for_status().json()
        self._hold({each["id"] for each in page["documents"]} == set(self.texts), "the list is another one")
        self._hold(page["total"] == len(self.texts), f"{page['total']} documents, {len(self.texts)} were sent")

    def teardown(self) -> None:
        settle(self.client)
        for document, word in self.texts.items():
            text = self.client.get(f"/documents/{document}/text")
            self._hold(text.status_code == 200 and word in text.text, f"{document} does not hold {word}: {text.text}")
        self.client.close()

    def _ingest(self, count: int) -> None:
        words = [_word() for _ in range(count)]
        body = {"documents": [{"text": _text(word)} for word in words]}
        sent: dict[str, Any] = self.client.post("/ingest", json=body).raise_for_status().json()
        self.texts |= {each["id"]: word for each, word in zip(sent["documents"], words, strict=True)}

    def _replace(self, document: str) -> None:
        word = _word()
        self._put(document, word)
        self.gone[f"{document} {word}"] = self.texts[document]
        self.texts[document] = word

    def _put(self, document: str, word: str) -> None:
        self.client.put(f"/documents/{document}", json={"text": _text(word)}).raise_for_status()

    def _delete(self, document: str) -> None:
        self.client.delete(f"/documents/{document}").raise_for_status()
        self.gone[document] = self.texts.pop(document)

    def _hold(self, holds: bool, reason: str) -> None:
        self.counted.tried += 1
        assert holds, reason


def _word() -> str:
    return f"vessel{next(_numbers):x}"


def _text(word: str) -> str:
    return f"The {word} lies at the quay of the harbour. It waits there."
