"""Answers again, unseen, with a version in the shadow, and keeps how that compares with what was answered.

One thread for all tenants and a bounded queue: when questions come faster than they can be answered twice, the shadow
misses some. Knows answering and rows.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time

from adapters import Engine, Selection
from adapters.errors import AdapterError
from adapters.squad import exact_match, f1_score
from app.answering import answer
from app.schemas import AskRequest, AskResponse, GivenPassage
from app.templates import StoredTemplate
from app.workspace import Workspace
from ingest import DatabaseClosed

_log = logging.getLogger("lorebase.shadow")
_MOST_WAITING = 64
_MOST_KEPT = 10_000  # of one tenant


class ShadowRunner:
    """The thread that answers in the shadow.

    Attributes:
        missed: questions that found the queue full.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.Queue[tuple[Workspace, AskRequest, AskResponse, Selection, StoredTemplate] | None]
        self._waiting = queue.Queue(_MOST_WAITING)
        self._stopping = threading.Event()
        self.missed = 0
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def note(
        self,
        workspace: Workspace,
        request: AskRequest,
        response: AskResponse,
        shadow: Selection,
        template: StoredTemplate,
    ) -> None:
        """Answer this in the shadow too, soon, if there is room."""
        try:
            self._waiting.put_nowait((workspace, request, response, shadow, template))
        except queue.Full:
            self.missed += 1

    def stop(self) -> None:
        """Stop; what waits is not answered."""
        self._stopping.set()
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            waiting = self._waiting.get()
            if waiting is None:
                return
            try:
                self._compare(*waiting)
            except (AdapterError, DatabaseClosed):  # people come first; the tenant is gone
                self.missed += 1
            except Exception:
                _log.exception("an answer in the shadow failed", extra={"tenant": waiting[0].tenant_id})

    def _compare(
        self,
        workspace: Workspace,
        request: AskRequest,
        given: AskResponse,
        shadow: Selection,
        template: StoredTemplate,
    ) -> None:
        if not given.passages:
            return
        again = request.model_copy(
            update={
                "question": given.rewritten_question or request.question,
                "history": [],
                "passages": [GivenPassage(title=p.title, text=p.text) for p in given.passages],
            }
        )
        unseen = asyncio.run(self._answer(workspace, again, shadow, template))
        same = exact_match(unseen.answer, [given.answer])
        f1 = f1_score(unseen.answer, [given.answer])
        with workspace.database.write() as connection:
            connection.execute(
                "INSERT INTO shadow_answers (at, adapter, version, same, f1, abstained, confidence) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (time.time(), shadow.name, shadow.version, int(same), f1, int(unseen.abstained), unseen.confidence),
            )
            connection.execute(
                "DELETE FROM shadow_answers WHERE number <= "
                "(SELECT number FROM shadow_answers ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (_MOST_KEPT,),
            )

    async def _answer(
        self, workspace: Workspace, request: AskRequest, shadow: Selection, template: StoredTemplate
    ) -> AskResponse:
        steps = answer(workspace, self._engine, shadow, template, request, "", keep=False)
        return [step async for step in steps if isinstance(step, AskResponse)][-1]
