"""An evaluation as a report: Markdown, and one HTML page by itself with charts as inline SVG.

Pure: an evaluation as clients see it in, text out. Whatever comes from clients or documents is escaped.
"""

from __future__ import annotations

from html import escape

from app.evaluation_schemas import EvaluationDifference, EvaluationFigures, EvaluationResponse, EvaluationWay
from app.life.comparison import TITLES

COLUMNS = (
    "way", "EM", "F1 (95 % interval)", "recall@1/5/20", "citations right", "abstained", "p50 / p95", "tokens",
)  # fmt: skip
_NOTES = (
    "EM and F1 in percent, as SQuAD's official script counts them. recall@k: a passage with the answer among the first "
    "k found. Citations right: of the answers that cite, those with a citation that holds a right answer. Latency is "
    "measured in the service, one question at a time, all ways in turn; the question's embedding is made before. "
    "Tokens: read and written per question."
)
_WIDTH, _ROW, _LABEL, _BAR = 640, 34, 140, 440


def markdown_report(found: EvaluationResponse) -> str:
    """The report in Markdown."""
    lines = [f"# {_plain(_title(found))}", "", _plain(_lead(found)), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    lines += ["| " + " | ".join(_plain(cell) for cell in cells(way)) + " |" for way in found.ways]
    lines += ["", "## Differences, over the same questions", ""]
    lines += [f"- {_told(each)}" for each in found.differences] or ["- None: there is one way only."]
    if found.general is not None:
        lines += [f"- On the general set: {_told(found.general)}"]
    if found.gate is not None:
        lines += ["", "## Conditions", "", *(f"- {_plain(reason)}" for reason in found.gate.reasons)]
    return "\n".join([*lines, "", _NOTES, ""])


def html_report(found: EvaluationResponse) -> str:
    """The report as one HTML page that loads nothing."""
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(way)) + "</tr>" for way in found.ways)
    told = [_told(each) for each in found.differences]
    if found.general is not None:
        told.append(f"On the general set: {_told(found.general)}")
    conditions = ""
    if found.gate is not None:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in found.gate.reasons)
        conditions = f"<h2>Conditions</h2><ul>{reasons}</ul>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(_title(found))}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem; color: #1c2530;
background: #fff }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px }} th, td {{ text-align: left; padding: .4rem .6rem;
border-bottom: 1px solid #d7dde3 }} .lead {{ background: #eef4fb; padding: 1rem; border-left: 4px solid #2c6fb3 }}
svg text {{ font: 13px system-ui, sans-serif; fill: #1c2530 }} small {{ color: #57636f }}
</style></head><body>
<h1>{escape(_title(found))}</h1>
<p class="lead">{escape(_lead(found))}</p>
<h2>F1 with its 95 % interval</h2>
{_f1_chart(found.ways)}
<h2>Differences, over the same questions</h2>
{_difference_chart(found.differences)}
<ul>{"".join(f"<li>{escape(each)}</li>" for each in told)}</ul>
{conditions}
<h2>All figures</h2>
<table><thead><tr>{"".join(f"<th>{escape(name)}</th>" for name in COLUMNS)}</tr></thead><tbody>{rows}</tbody></table>
<p><small>{escape(_NOTES)}</small></p>
</body></html>
"""


def _title(found: EvaluationResponse) -> str:
    return f"{found.name or 'Evaluation'}: {found.questions} questions"


def _lead(found: EvaluationResponse) -> str:
    if found.gate is not None:
        verdict = "passed" if found.gate.passed else "did not pass"
        after = "and was promoted" if found.gate.promoted else "and was not promoted"
        todo = f" {found.gate.advice.text}" if found.gate.advice is not None else ""
        return f"The candidate {verdict} the gate {after}.{todo}"
    return found.recommendation.text if found.recommendation is not None else ""


def cells(way: EvaluationWay) -> list[str]:
    """A way's row under `COLUMNS`."""
    name = f"{way.title} ({way.adapter})" if way.adapter != "base" else way.title
    figures = way.figures
    if figures is None:
        return [name, f"not possible: {way.impossible}", *("" for _ in COLUMNS[2:])]
    return [
        name,
        f"{figures.em:.1f}",
        f"{figures.f1:.1f} ({figures.f1_low:.1f} to {figures.f1_high:.1f})",
        _recall(figures),
        _share(figures.citation_correct),
        _abstained(figures),
        f"{figures.p50_ms:.0f} / {figures.p95_ms:.0f} ms",
        f"{figures.tokens:.0f}",
    ]


def _recall(figures: EvaluationFigures) -> str:
    return " / ".join(f"{share:.2f}" for share in figures.recall.values()) if figures.recall else "-"


def _abstained(figures: EvaluationFigures) -> str:
    told = _share(figures.abstained)
    if figures.abstain_recall is not None:
        told += f" (precision {_share(figures.abstain_precision)}, recall {_share(figures.abstain_recall)})"
    return told


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _told(each: EvaluationDifference) -> str:
    word = "better" if each.f1 >= 0 else "worse"
    sure = "" if each.low > 0 or each.high < 0 else "; chance alone could do that"
    return (
        f"{TITLES[each.first]} is {abs(each.f1):.1f} F1 points {word} than {TITLES[each.second]} "
        f"({each.low:.1f} to {each.high:.1f}{sure})."
    )


def _plain(text: str) -> str:
    """Text that Markdown leaves alone, on one line."""
    kept = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in kept)


def _f1_chart(ways: list[EvaluationWay]) -> str:
    shown = [(way, way.figures) for way in ways if way.figures is not None]
    rows = []
    for i, (way, figures) in enumerate(shown):
        y, scale = i * _ROW, _BAR / 100
        low, high = _LABEL + figures.f1_low * scale, _LABEL + figures.f1_high * scale
        rows.append(
            f'<text x="0" y="{y + 21}">{escape(way.title)}</text>'
            f'<rect x="{_LABEL}" y="{y + 6}" width="{figures.f1 * scale:.1f}" height="22" fill="#9cc3ea"/>'
            f'<path d="M{low:.1f} {y + 17}H{high:.1f}M{low:.1f} {y + 11}v12M{high:.1f} {y + 11}v12" stroke="#14436f" '
            f'stroke-width="2"/><text x="{_LABEL + _BAR + 8}" y="{y + 21}">{figures.f1:.1f}</text>'
        )
    return _svg("".join(rows), len(shown), "F1 of each way to answer, from 0 to 100")


def _difference_chart(differences: list[EvaluationDifference]) -> str:
    if not differences:
        return ""
    reach = max(1.0, *(abs(v) for d in differences for v in (d.low, d.high)))
    label, middle, scale = 250, 445, 150 / reach
    rows = [f'<path d="M{middle} 0V{len(differences) * _ROW}" stroke="#8a95a0" stroke-dasharray="4 3"/>']
    for i, each in enumerate(differences):
        y = i * _ROW + 17
        low, high, mean = (middle + value * scale for value in (each.low, each.high, each.f1))
        colour = "#1d7a45" if each.low > 0 else "#b3362c" if each.high < 0 else "#6b7683"
        rows.append(
            f'<text x="0" y="{y + 4}">{escape(TITLES[each.first])} − {escape(TITLES[each.second])}</text>'
            f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{colour}" stroke-width="3"/>'
            f'<circle cx="{mean:.1f}" cy="{y}" r="5" fill="{colour}"/>'
            f'<text x="{label + 352}" y="{y + 4}">{each.f1:+.1f}</text>'
        )
    return _svg("".join(rows), len(differences), "Differences in F1 with their intervals; the dashed line is 0")


def _svg(inner: str, rows: int, label: str) -> str:
    height = rows * _ROW + 4
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{inner}</svg>'
    )
