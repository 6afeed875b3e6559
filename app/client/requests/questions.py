"""Questions, what people say of the answers, and the templates of the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from app.client.calls import Call, Download, Events, Sending, StreamEvent, given, nothing, path_of, shaped
from app.feedback_schemas import FeedbackPage
from app.schemas import AskResponse, DefaultTemplate, PassageResponse, SearchResponse, TemplateList, TemplateResponse


class GivenText(TypedDict):
    """A passage to answer from instead of retrieving."""

    title: str
    text: str


def search(
    query: str,
    *,
    top_k: int = 5,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    retrieval: Mapping[str, Any] | None = None,
) -> Call[list[PassageResponse]]:
    """The passages nearest to a query, best first."""
    body = given(query=query, top_k=top_k, filter=filter, collection=collection, retrieval=retrieval)
    found = shaped(SearchResponse, Sending("POST", "/search", json=body))
    return Call(found.sending, lambda response: found.read(response).passages)


def ask(
    question: str,
    *,
    adapter: str | None = None,
    top_k: int | None = None,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    max_tokens: int | None = None,
    min_confidence: float | None = None,
    passages: Sequence[GivenText] | None = None,
    history: Sequence[Mapping[str, str]] | None = None,
    template: str | None = None,
) -> Call[AskResponse]:
    """The answer to a question.

    Args:
        adapter: ``name``, ``name@version`` or ``base``; None takes the tenant's default.
        min_confidence: below it the service abstains; 0 always answers; None is the engine's own threshold.
        passages: answer from these instead of retrieving; citations then name no document.
        history: earlier turns, ``{"question", "answer"}``, oldest first.
    """
    body = given(
        question=question, top_k=top_k, filter=filter, collection=collection, max_tokens=max_tokens,
        min_confidence=min_confidence, passages=passages, history=history, template=template,
    )  # fmt: skip
    return shaped(AskResponse, Sending("POST", "/ask", json=body, headers=_choose(adapter)))


def ask_stream(
    question: str,
    *,
    adapter: str | None = None,
    top_k: int | None = None,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    max_tokens: int | None = None,
    min_confidence: float | None = None,
    template: str | None = None,
) -> Events[StreamEvent]:
    """The answer as it grows: ``passages``, then ``token`` events, then ``done`` (an AskResponse) or ``error``."""
    body = given(
        question=question, top_k=top_k, filter=filter, collection=collection, max_tokens=max_tokens,
        min_confidence=min_confidence, template=template, stream=True,
    )  # fmt: skip
    return Events(Sending("POST", "/ask", json=body, headers=_choose(adapter)), lambda event: event)


def give_feedback(request_id: str, rating: int | None = None, correction: str | None = None) -> Call[None]:
    """Say of an answer whether it was good (1) or bad (-1), or what it should have been."""
    body = given(request_id=request_id, rating=rating, correction=correction)
    return nothing(Sending("POST", "/feedback", json=body))


def feedback(*, offset: int = 0, limit: int = 100) -> Call[FeedbackPage]:
    """One page of the feedback given, newest first."""
    return shaped(FeedbackPage, Sending("GET", "/feedback", given(offset=offset, limit=limit)))


def feedback_lines() -> Download:
    """All feedback as JSON Lines."""
    return Download(Sending("GET", "/feedback/export"))


def forget_feedback(request_id: str) -> Call[None]:
    """Take back what was said of an answer."""
    return nothing(Sending("DELETE", path_of("feedback", request_id)))


def templates() -> Call[TemplateList]:
    """The tenant's prompt templates."""
    return shaped(TemplateList, Sending("GET", "/templates"))


def put_template(name: str, **fields: Any) -> Call[TemplateResponse]:
    """Write a new version of a prompt template; ``fields`` are those of the request."""
    return shaped(TemplateResponse, Sending("PUT", path_of("templates", name), json=given(**fields)))


def template(name: str) -> Call[TemplateResponse]:
    """One prompt template."""
    return shaped(TemplateResponse, Sending("GET", path_of("templates", name)))


def set_default_template(name: str) -> Call[DefaultTemplate]:
    """Choose the template of requests that name none."""
    return shaped(DefaultTemplate, Sending("PUT", "/templates/default", json={"name": name}))


def delete_template(name: str) -> Call[None]:
    """Delete a prompt template with all its versions."""
    return nothing(Sending("DELETE", path_of("templates", name)))


def _choose(adapter: str | None) -> dict[str, str]:
    return {"X-Adapter": adapter} if adapter else {}
