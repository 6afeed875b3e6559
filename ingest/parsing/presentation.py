"""PPTX: slides as pages, their titles as headings, with text, tables, charts, diagrams and notes.

Knows python-pptx. What stands on masters and layouts (logos, footers) is left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, open_container, refuse_encrypted
from ingest.parsing.detection import PPTX
from ingest.parsing.document import (
    ParsedDocument,
    ParseLimits,
    TextBuilder,
    one_line,
    reason_of,
    squeeze_spaces,
    table_row,
)

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
_DATA = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}dm"
_LEFT_OUT = frozenset({"DATE", "FOOTER", "SLIDE_NUMBER", "HEADER"})
_DEEPEST_GROUP = 20


def parse_pptx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of a presentation, one page for each slide.

    Raises:
        UnreadableDocument: the file is damaged, or larger than the limits.
    """
    with open_container(content, limits, "PowerPoint presentation") as archive:
        refuse_encrypted(archive, "PowerPoint presentation")
    import pptx
    from lxml import etree  # type: ignore[import-untyped]
    from pptx.exc import PythonPptxError

    damaged = (
        *ZIP_ERRORS, PythonPptxError, etree.XMLSyntaxError, KeyError, AttributeError, TypeError, IndexError
    )  # fmt: skip
    try:
        presentation: Any = pptx.Presentation(io.BytesIO(content))
        slides = list(presentation.slides)
        if len(slides) > limits.pages:
            raise UnreadableDocument(
                f"the PowerPoint presentation has {len(slides)} slides, allowed are {limits.pages}; split it"
            )
        builder = TextBuilder()
        for number, slide in enumerate(slides, start=1):
            _add_slide(builder, number, slide)
        return builder.finish(PPTX, _title(presentation, slides))
    except damaged as error:
        if isinstance(error, UnreadableDocument):
            raise
        raise UnreadableDocument(f"the PowerPoint presentation is damaged ({reason_of(error)})") from error


def _add_slide(builder: TextBuilder, number: int, slide: Any) -> None:
    start = builder.length + (2 if builder.length else 0)
    title = slide.shapes.title
    named = one_line(title.text_frame.text) if title is not None else ""
    # A slide without a title begins a section all the same: it does not belong to the one before it.
    builder.heading(1, named or f"Slide {number}")
    own = title.shape_id if title is not None else None
    for shape in slide.shapes:
        if shape.shape_id != own:
            for block in _blocks(shape):
                builder.block(block)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = squeeze_spaces(slide.notes_slide.notes_text_frame.text)
        builder.block(f"Notes: {notes}" if notes else "")
    builder.page(number, start)


def _blocks(shape: Any, depth: int = 0) -> Iterator[str]:
    if hasattr(shape, "shapes"):  # a group
        if depth < _DEEPEST_GROUP:
            for each in shape.shapes:
                yield from _blocks(each, depth + 1)
    elif getattr(shape, "has_table", False):
        rows = ([one_line(cell.text) for cell in row.cells] for row in shape.table.rows)
        yield "\n".join(table_row(row) for row in rows if any(row))
    elif getattr(shape, "has_chart", False):
        yield "\n".join(_chart(shape.chart))
    elif shape.has_text_frame:
        role = shape.placeholder_format.type if shape.is_placeholder else None
        if role is None or role.name not in _LEFT_OUT:
            yield _paragraphs(shape)
    elif shape.element.find(f".//{{{_DIAGRAM}}}relIds") is not None:
        yield "\n".join(_diagram(shape))


def _paragraphs(shape: Any) -> str:
    """The lines of a text shape; those of a body with several points are points."""
    lines = [(paragraph.level, one_line(paragraph.text)) for paragraph in shape.text_frame.paragraphs]
    lines = [(level, line) for level, line in lines if line]
    points = len(lines) > 1 and shape.is_placeholder
    return "\n".join("  " * level + ("- " if points else "") + line for level, line in lines)


def _chart(chart: Any) -> Iterator[str]:
    if chart.has_title and chart.chart_title.has_text_frame and (title := one_line(chart.chart_title.text_frame.text)):
        yield f"Chart: {title}"
    for plot in chart.plots:
        categories = [one_line(str(category)) for category in plot.categories]
        for series in plot.series:
            values = ["" if value is None else f"{value:.15g}" for value in series.values]
            named = [f"{name}: {value}" for name, value in zip(categories, values, strict=False) if value]
            yield f"{one_line(str(series.name))} – " + "; ".join(named or values)


def _diagram(shape: Any) -> Iterator[str]:
    """The words of a SmartArt diagram, which lie in a part of their own."""
    from lxml import etree

    relation = shape.element.find(f".//{{{_DIAGRAM}}}relIds").get(_DATA)
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    root = etree.fromstring(shape.part.related_part(relation).blob, parser)
    for paragraph in root.iter(f"{_A}p"):
        if text := one_line("".join(run.text or "" for run in paragraph.iter(f"{_A}t"))):
            yield f"- {text}"


def _title(presentation: Any, slides: list[Any]) -> str | None:
    named = one_line(presentation.core_properties.title or "")
    if named and named.casefold() not in {"powerpoint presentation", "powerpoint-präsentation"}:
        return named
    first = slides[0].shapes.title if slides else None
    return one_line(first.text_frame.text) or None if first is not None else None
