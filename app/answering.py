"""One question, walked through once: rewrite where it follows up, retrieve, read, cite.

Every citation is cut from the stored passage by offsets, so a quote always stands in its document. Knows corpora and
the engine seam; knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

from adapters import (
    Done,
    Engine,
    Passage,
    PromptTemplate,
    Row,
    Selection,
    Span,
    Token,
    Turn,
)
from app.followup import standalone
from app.row_events import submitted
from app.schemas import (
    AdapterUsed,
    AskRequest,
    AskResponse,
    Citation,
    GivenPassage,
    PassageResponse,
    SearchRequest,
    StageScores,
    Usage,
)
from app.templates import BUILTIN, StoredTemplate
from app.turns import Turns
from app.workspace import Workspace
from ingest import FoundPassage, foreign_script
from ingest.sentences import sentences

_REWRITE = PromptTemplate(
    system="You rewrite the last question of a conversation so that it can be understood without the conversation. "
    "Replace pronouns and fill in what is left out. Reply with the rewritten question only."
)
_REWRITE_TOKENS = 96


@dataclass(frozen=True)
class Retrieved:
    """The passages a question is answered from."""

    passages: list[PassageResponse]


@dataclass(frozen=True)
class AnswerPiece:
    """A piece of the answer's text, in order."""

    text: str


async def retrieve(workspace: Workspace, request: AskRequest, question: str) -> list[PassageResponse]:
    """The passages for a question: the given ones, or what the tenant's corpus holds. Raises ingest's errors."""
    if request.passages is not None:
        return [_given(passage) for passage in request.passages]
    return await find(workspace, question, request)


async def find(workspace: Workspace, query: str, request: AskRequest | SearchRequest) -> list[PassageResponse]:
    """The passages of the tenant's corpus for a query: as many as the request wants, from where it wants them, by the
    stages it names and else as the service is set. Raises ingest's errors."""
    asked = request.retrieval
    options = replace(workspace.retrieval, **asked.model_dump(exclude_none=True)) if asked else workspace.retrieval
    found = await asyncio.to_thread(
        workspace.corpus.search, query, request.top_k, request.filter, request.collection, options
    )
    return [passage_response(passage) for passage in found]


async def answer(
    workspace: Workspace,
    engine: Engine,
    selection: Selection | None,
    template: StoredTemplate,
    request: AskRequest,
    request_id: str,
    *,
    grounded: bool = True,
    keep: bool = True,
    warnings: tuple[str, ...] = (),
    turns: Turns | None = None,
) -> AsyncGenerator[Retrieved | AnswerPiece | AskResponse]:
    """Answer a question: first what was retrieved, then the answer as it grows, last the whole response.

    Closing the iterator early cancels the row. Raises the errors of retrieval and of the engine.

    Args:
        template: how a language model is asked.
        grounded: False: retrieve nothing and let a language model answer from the conversation.
        keep: keep the answer, so that feedback can be given on it.
        warnings: what a person should know of the selection.
        turns: among whose questions this one waits for its turn, which ends when the engine is done with it, however
            long its answer takes to be read; None: it begins at once.
    """
    came = time.perf_counter()
    with nullcontext() if turns is None else await turns.begin(workspace.tenant_id) as turn:
        began = time.perf_counter()
        if selection is not None:
            engine.prefetch(selection.ref, workspace.tenant_id)  # while passages are retrieved
        history = tuple(Turn(turn.question, turn.answer) for turn in request.history)
        rewritten = await _rewritten(engine, workspace.tenant_id, request.question, history) if grounded else None
        passages = await retrieve(workspace, request, rewritten or request.question) if grounded else []
        retrieved = time.perf_counter()
        # A language model reads the conversation itself; the reader sees one question.
        question = request.question if engine.generates else rewritten or request.question
        row = _row(workspace, selection, template, request, question, passages, history, grounded)
        first_token: float | None = None
        async with submitted(engine, row, turn.end if turn is not None else None) as events:
            yield Retrieved(passages)
            async for event in events:
                if isinstance(event, Token):
                    first_token = first_token or time.perf_counter()
                    yield AnswerPiece(event.text)
                elif isinstance(event, Done):
                    done = event
    citations = await asyncio.to_thread(_citations, workspace, done.spans, passages, engine.generates)
    ended = time.perf_counter()
    response = AskResponse(
        request_id=request_id,
        answer=done.answer,
        abstained=done.abstained,
        confidence=round(done.confidence, 4),
        citations=citations,
        passages=passages,
        dropped_passages=list(done.dropped),
        adapter=_used(selection),
        usage=Usage(prompt_tokens=done.prompt_tokens, completion_tokens=done.completion_tokens),
        rewritten_question=rewritten,
        template=f"{template.name}@{template.version}" if template.name != BUILTIN else None,
        finish_reason=done.finish_reason,
        unknown_citations=done.unknown_marks,
        warnings=[*warnings, *_warnings(workspace, engine, template, request, done)],
        timings_ms={
            "retrieve": _milliseconds(retrieved - began),
            "queue": _milliseconds(began - came + done.queued_seconds),
            **({"first_token": _milliseconds(first_token - retrieved)} if first_token is not None else {}),
            "generate": _milliseconds(ended - retrieved),
            "total": _milliseconds(ended - came),
        },
    )
    if keep:
        workspace.answers.note(request, response, selection.arm if selection else None)
        if selection is not None and selection.shadow is not None:
            workspace.in_shadow(workspace, request, response, selection.shadow, template)
    yield response


def _row(
    workspace: Workspace,
    selection: Selection | None,
    template: StoredTemplate,
    request: AskRequest,
    question: str,
    passages: Sequence[PassageResponse],
    history: tuple[Turn, ...],
    grounded: bool,
) -> Row:
    """What the engine is asked."""
    return Row(
        question=question,
        passages=tuple(Passage(p.text, p.title) for p in passages),
        adapter=selection.ref if selection else None,
        max_tokens=request.max_tokens,
        min_confidence=request.min_confidence,
        share_key=workspace.tenant_id,
        cache_salt=workspace.tenant_id,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=tuple(request.stop),
        template=template.template,
        history=history,
        grounded=grounded,
    )


async def _rewritten(engine: Engine, tenant_id: str, question: str, history: tuple[Turn, ...]) -> str | None:
    """A follow-up question as one that stands alone, or None where it needs no change.

    A language model rewrites it; when its reply is no single plausible line, the rules of `app.followup` do.
    """
    if not history:
        return None
    if engine.generates:
        row = Row(
            f"Rewrite this question: {question}",
            (),
            max_tokens=_REWRITE_TOKENS,
            share_key=tenant_id,
            cache_salt=tenant_id,
            template=_REWRITE,
            history=history,
            grounded=False,
        )
        async with submitted(engine, row) as events:
            async for event in events:
                if isinstance(event, Done):
                    line = event.answer.strip().strip('"“”').strip()
                    if event.finish_reason == "stop" and line and "\n" not in line and "\0" not in line:
                        return None if line == question.strip() else line
    return standalone(question, history)


def language_warning(text: str, what: str) -> str | None:
    """What a person should know when a text is not in the language of the default models, which is English."""
    script = foreign_script(text)
    if script is None:
        return None
    return (
        f"{what} is written mostly in {script} script; the default models are English: keyword search finds it, but "
        "they will find it by meaning, and read it, poorly. Set LOREBASE_EMBEDDER and LOREBASE_MODEL to models of "
        "its language."
    )


def _warnings(
    workspace: Workspace, engine: Engine, template: StoredTemplate, request: AskRequest, done: Done
) -> list[str]:
    warnings = [language_warning(request.question, "The question") if workspace.english_only else None]
    if not engine.generates:
        if request.template is not None:
            warnings.append("The reader quotes spans and has no prompt: the template has no effect.")
        if idle := sorted({"temperature", "top_p", "seed", "stop"} & request.model_fields_set):
            warnings.append(f"The reader chooses a span and draws no tokens: {', '.join(idle)} had no effect.")
    if done.dropped_turns:
        warnings.append(f"The oldest {done.dropped_turns} turns of the conversation did not fit the model's context.")
    if done.unknown_marks:
        warnings.append(f"{done.unknown_marks} citation marks named no passage and were left out of the answer.")
    return [warning for warning in warnings if warning]


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """The whole sentences of ``text`` that the span from ``start`` to ``end`` touches."""
    touched = [(s, e) for s, e in sentences(text) if s < end and e > start]
    return (min(start, touched[0][0]), max(end, touched[-1][1])) if touched else (start, end)


def passage_response(found: FoundPassage) -> PassageResponse:
    """A found passage as clients see it."""
    return PassageResponse(
        chunk_id=found.chunk_id,
        document_id=found.document_id,
        title=found.title,
        text=found.text,
        score=round(float(found.score), 6),
        page=found.page,
        section=found.section,
        start=found.start,
        end=found.end,
        scores=StageScores(**{k: None if v is None else round(v, 6) for k, v in asdict(found.scores).items()}),
    )


def _given(passage: GivenPassage) -> PassageResponse:
    return PassageResponse(
        chunk_id=None, document_id=None, title=passage.title, text=passage.text, score=None, page=None, section=None,
        start=0, end=len(passage.text),
    )  # fmt: skip


def _citations(
    workspace: Workspace, spans: Sequence[Span], passages: Sequence[PassageResponse], marked: bool
) -> list[Citation]:
    """The cited places. A language model's citation carries the number of its mark in the answer: its passage's."""
    return [
        _citation(workspace, span.passage + 1 if marked else i + 1, span, passages[span.passage])
        for i, span in enumerate(spans)
    ]


def _citation(workspace: Workspace, index: int, span: Span, passage: PassageResponse) -> Citation:
    start, end = sentence_around(passage.text, span.start, span.end)
    page, section = passage.page, passage.section
    if passage.document_id is not None:  # a passage may reach over a page's end; the sentence is what is cited
        page, section = workspace.corpus.place(passage.document_id, passage.start + start, passage.start + end)
    return Citation(
        index=index,
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        title=passage.title,
        page=page,
        section=section,
        quote=passage.text[start:end],
        start=passage.start + start,
        end=passage.start + end,
        score=round(span.score, 4),
    )


def _used(selection: Selection | None) -> AdapterUsed | None:
    return (
        AdapterUsed(name=selection.name, version=selection.version, sha256=selection.ref.sha256) if selection else None
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
