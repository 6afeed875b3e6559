"""Charts as SVG, written by hand: bars with their figures. Pure: numbers in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.suite.catalogue import Figure

_WIDTH, _ROW, _TOP = 760, 30, 44
_LABEL, _BAR = 400, 240
_KEPT, _MISSED, _PLAIN = "#1d7a45", "#b3362c", "#2c6fb3"
_MOST = 2.0  # beyond this multiple of what is wanted a bar is cut


def bar_chart(title: str, unit: str, values: Mapping[str, float]) -> str:
    """Figures of one unit as bars from 0, one below the other."""
    longest = max([*values.values(), 0.0]) or 1.0
    rows = [
        _row(i, label, _BAR * max(value, 0.0) / longest, _PLAIN, f"{value:.4g} {unit}".strip())
        for i, (label, value) in enumerate(values.items())
    ]
    return _svg(title, rows)


def wanted_chart(title: str, figures: Sequence[tuple[Figure, float]]) -> str:
    """Figures as multiples of what is wanted, which is the dashed line; green where kept, red where missed.

    A figure of which nothing or 0 is wanted has no multiple and is left out.
    """
    rows: list[str] = []
    for figure, value in figures:
        if figure.wanted:
            share = min(max(value / figure.wanted, 0.0), _MOST) / _MOST
            bound = f"{'≤' if figure.most else '≥'} {figure.wanted:g}"
            colour = _KEPT if figure.kept(value) else _MISSED
            text = f"{value:.3g} ({bound} {figure.unit}".rstrip() + ")"
            rows.append(_row(len(rows), figure.title, _BAR * share, colour, text))
    line = _LABEL + _BAR / _MOST
    mark = f'<path d="M{line:g} {_TOP - 4}V{_TOP + len(rows) * _ROW}" stroke="#57636f" stroke-dasharray="4 3"/>'
    return _svg(title, [*rows, mark], len(rows))


def _row(i: int, label: str, length: float, colour: str, text: str) -> str:
    y = _TOP + i * _ROW
    return (
        f'<text x="12" y="{y + 18}">{escape(label)}</text>'
        f'<rect x="{_LABEL}" y="{y + 4}" width="{length:.1f}" height="20" fill="{colour}"/>'
        f'<text x="{_LABEL + length + 6:.1f}" y="{y + 18}">{escape(text)}</text>'
    )


def _svg(title: str, rows: Sequence[str], count: int | None = None) -> str:
    height = _TOP + (len(rows) if count is None else count) * _ROW + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13" fill="#1c2530">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="12" y="26" font-size="15" font-weight="600">{escape(title)}</text>{"".join(rows)}</svg>\n'
    )
