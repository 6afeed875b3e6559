"""`lorebase ask` and `lorebase search`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from app.client import ServiceError
from app.schemas import AskResponse, PassageResponse
from app.terminal.answers import NO_ANSWER, answers_table, citations, footer
from app.terminal.failures import Unusable
from app.terminal.output import Output, table
from app.terminal.session import Session, on_service

Filter = Annotated[str | None, typer.Option(help="A metadata filter in JSON, such as '{\"year\": 2025}'.")]
Collection = Annotated[str | None, typer.Option(help="Only documents of this collection.")]


@on_service()
def ask(
    session: Session,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    adapter: Annotated[str | None, typer.Option(help="`name`, `name@version` or `base`.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Ask under base and under this adapter, side by side; may be repeated.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Passages the answer is read from.")] = None,
    collection: Collection = None,
    filter: Filter = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = None,
    min_confidence: Annotated[float | None, typer.Option(min=0, max=1, help="Abstain below it; 0: never.")] = None,
    template: Annotated[str | None, typer.Option(help="A prompt template.")] = None,
) -> None:
    """Answer a question from the documents, with the sentences the answer rests on."""
    if compare and adapter is not None:
        raise Unusable("Give either --adapter or --compare.")
    given: dict[str, Any] = {
        "top_k": top_k, "collection": collection, "filter": json_object("--filter", filter), "max_tokens": max_tokens,
        "min_confidence": min_confidence, "template": template,
    }  # fmt: skip
    if compare:
        ways = dict.fromkeys(["base", *compare])
        answers = [session.client.ask(question, adapter=way, **given) for way in ways]
        told = {"question": question, "answers": [answer.model_dump(mode="json") for answer in answers]}
        session.output.result(told, answers_table(question, answers))
    elif session.output.as_json:
        session.output.result(session.client.ask(question, adapter=adapter, **given))
    else:
        _show_as_it_comes(session, question, adapter, given)


@on_service()
def search(
    session: Session,
    query: Annotated[str, typer.Argument(help="What the passages should be about.")],
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Passages to show.")] = 5,
    mode: Annotated[str | None, typer.Option(help="hybrid, dense or keyword.")] = None,
    rerank: Annotated[bool | None, typer.Option(help="Reread the best candidates with the query.")] = None,
    collection: Collection = None,
    filter: Filter = None,
) -> None:
    """The passages most like a query, best first."""
    retrieval = {name: value for name, value in (("mode", mode), ("rerank", rerank)) if value is not None}
    found = session.client.search(
        query, top_k=top_k, filter=json_object("--filter", filter), collection=collection, retrieval=retrieval or None
    )
    told = {"passages": [passage.model_dump(mode="json") for passage in found]}
    rows = [(f"{p.score:.3f}" if p.score is not None else "", _place(p), " ".join(p.text.split())) for p in found]
    session.output.result(told, table(("score", "where", "passage"), rows, "Nothing is like it."))


def json_object(option: str, given: str | None) -> dict[str, Any] | None:
    """The JSON object of an option. Raises Unusable."""
    if given is None:
        return None
    try:
        value = json.loads(given)
    except ValueError as error:
        raise Unusable(f"{option}: is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unusable(f"{option}: must be a JSON object.")
    return value


def _show_as_it_comes(session: Session, question: str, adapter: str | None, given: dict[str, Any]) -> None:
    output = session.output
    shown = ""
    for event in session.client.ask_stream(question, adapter=adapter, **given):
        if event.event == "token":
            shown += event.data["text"]
            output.console.print(Text(event.data["text"]), end="", soft_wrap=True)
        elif event.event == "error":
            output.console.print()
            raise ServiceError(event.data["status"], event.data["code"], event.data["detail"])
        elif event.event == "done":
            _show_end(output, AskResponse.model_validate(event.data), shown)


def _show_end(output: Output, response: AskResponse, shown: str) -> None:
    if response.abstained:
        output.console.print(Text(NO_ANSWER, "italic"))
    elif not shown:
        output.console.print(Text(response.answer), soft_wrap=True)
    else:
        output.console.print()
    output.console.print(citations(response), footer(response), sep="\n", soft_wrap=True)


def _place(passage: PassageResponse) -> str:
    page = f"page {passage.page}" if passage.page is not None else ""
    section = (passage.section or "").removeprefix(passage.title).removeprefix(" > ")
    return " · ".join(part for part in (passage.title, page, section) if part)
