"""An evaluation's figures as a table for people and as one JSON object for machines.

Knows the figures' names and units; measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from app.answer_metrics import RECALL_AT, Summary
from app.evaluation import Options
from app.evaluation_schemas import EvaluationResponse
from app.life.comparison_report import COLUMNS, cells

Figure = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Setup:
    """What was measured, and how: the part of a report that makes its figures comparable."""

    data: str
    options: Options
    abstains: bool
    unanswerable: int
    adapter: str
    seed: int
    seconds: float


def figures(summary: Summary, setup: Setup) -> dict[str, Figure]:
    """The report as one flat JSON object. EM and F1 in percent, recall, MRR and abstention as fractions."""
    recall: dict[str, Figure] = {
        f"recall@{k}": _rounded((summary.recall or {}).get(k), 4) if summary.recall else None for k in RECALL_AT
    }
    options = setup.options
    return {
        "n": summary.n,
        "em": _rounded(summary.em, 2),
        "f1": _rounded(summary.f1, 2),
        **recall,
        "mrr": _rounded(summary.mrr, 4),
        "abstain_precision": _rounded(summary.abstain_precision, 4),
        "abstain_recall": _rounded(summary.abstain_recall, 4),
        "p50_ms": _rounded(summary.p50_ms, 2),
        "p95_ms": _rounded(summary.p95_ms, 2),
        "f1_low": _rounded(summary.f1_low, 2),
        "f1_high": _rounded(summary.f1_high, 2),
        "data": setup.data,
        "adapter": setup.adapter,
        "abstain": "on" if setup.abstains else "off",
        "granularity": None if options.given_paragraph else options.granularity,
        "given_paragraph": options.given_paragraph,
        "top_k": None if options.given_paragraph else options.top_k,
        "unanswerable": setup.unanswerable,
        "refused": summary.refused,
        "concurrency": options.concurrency,
        "seed": setup.seed,
        "seconds": _rounded(setup.seconds, 1),
    }


def report_table(summary: Summary, setup: Setup) -> Table:
    """The report as a table; its title and caption say what was measured and how."""
    table = Table(title=f"{setup.data}: {_how(setup.options)}, adapter {setup.adapter}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("meaning", style="dim")
    for name, value, meaning in _rows(summary):
        table.add_row(name, value, meaning)
    table.caption = _caption(summary, setup)
    table.caption_justify = "left"
    return table


def comparison_table(found: EvaluationResponse) -> Table:
    """The ways to answer side by side; the recommendation below."""
    table = Table(title=f"{found.name}: {found.questions} questions", title_justify="left")
    for name in COLUMNS:
        table.add_column(name)
    for way in found.ways:
        table.add_row(*cells(way))
    table.caption = found.recommendation.text if found.recommendation is not None else None
    table.caption_justify = "left"
    return table


def _rows(summary: Summary) -> list[tuple[str, str, str]]:
    recall = summary.recall or {}
    return [
        ("questions", str(summary.n), "asked"),
        ("EM", _percent(summary.em), "exact match, percent"),
        ("F1", _percent(summary.f1), f"token F1, percent; 95 % interval {summary.f1_low:.1f} to {summary.f1_high:.1f}"),
        *((f"recall@{k}", _fraction(recall.get(k)), f"an answer's passage among the first {k}") for k in RECALL_AT),
        ("MRR", _fraction(summary.mrr), "mean reciprocal rank of that passage, over the first 20"),
        ("abstention precision", _fraction(summary.abstain_precision), "of the abstentions, on unanswerable questions"),
        ("abstention recall", _fraction(summary.abstain_recall), "of the unanswerable questions, abstained on"),
        ("p50", f"{summary.p50_ms:.1f} ms", "an answer over HTTP, half are faster"),
        ("p95", f"{summary.p95_ms:.1f} ms", "an answer over HTTP, 95 of 100 are faster"),
    ]


def _how(options: Options) -> str:
    if options.given_paragraph:
        return "the paragraph given"
    return f"found among all {options.granularity}s, top {options.top_k}"


def _caption(summary: Summary, setup: Setup) -> str:
    parts = [
        "Abstention on, at the engine's threshold."
        if setup.abstains
        else "Abstention off: every question is answered.",
        f"{setup.unanswerable} of the questions are unanswerable; recall and MRR count the others."
        if setup.unanswerable
        else "All questions are answerable.",
        f"Concurrency {setup.options.concurrency}, {setup.seconds:.0f} s in all.",
    ]
    if summary.refused:
        parts.append(f"{summary.refused} questions were refused by the service and count as wrong.")
    return " ".join(parts)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _percent(value: float) -> str:
    return f"{value:.2f}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
