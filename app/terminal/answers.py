"""Answers as a person reads them in a terminal: the text, the sentences it rests on, and where those stand."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from app.schemas import AskResponse, Citation

NO_ANSWER = "no answer in the documents"


def used(response: AskResponse) -> str:
    """The adapter version that answered, or ``base``."""
    return f"{response.adapter.name}@{response.adapter.version}" if response.adapter else "base"


def place(citation: Citation) -> str:
    """Where a quote stands, in words: title, page, and the headings above it."""
    parts = [citation.title]
    if citation.page is not None:
        parts.append(f"page {citation.page}")
    section = (citation.section or "").removeprefix(citation.title).removeprefix(" > ")
    if section:
        parts.append(section)
    return " · ".join(part for part in parts if part)


def citations(response: AskResponse) -> Text:
    """The numbered citations, one below the other."""
    lines = Text()
    for citation in response.citations:
        lines.append(f"[{citation.index}] ", "cyan")
        lines.append(" ".join(citation.quote.split()))
        lines.append(f"\n    {place(citation)}\n", "dim")
    return lines


def footer(response: AskResponse) -> Text:
    """Who answered, how surely and how fast."""
    facts = [f"{used(response)}", f"confidence {response.confidence:.2f}", f"{response.timings_ms['total']:.0f} ms"]
    if response.finish_reason == "length":
        facts.append("cut off at --max-tokens")
    return Text(" · ".join([*facts, *response.warnings]), "dim")


def answers_table(question: str, responses: Sequence[AskResponse]) -> Table:
    """One question's answers, a row for each way it was asked."""
    table = Table(title=f"\n{question}", title_justify="left", title_style="bold", expand=True)
    table.add_column("adapter", no_wrap=True)
    table.add_column("answer", ratio=2)
    table.add_column("quote", ratio=3)
    table.add_column("place", ratio=2, style="dim")
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for response in responses:
        first = response.citations[0] if response.citations else None
        table.add_row(
            used(response),
            Text(NO_ANSWER, style="italic") if response.abstained else Text(response.answer),
            Text(" ".join(first.quote.split()) if first else ""),
            Text(place(first) if first else ""),
            f"{response.confidence:.2f}",
            f"{response.timings_ms['total']:.0f}",
        )
    return table
