"""PPTX: a slide is a page, its title the heading."""

from __future__ import annotations

from typing import Any

import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from tests.ingest.parsing.files import slides

PLACE = (Inches(1), Inches(3), Inches(6), Inches(2))


def deck(presentation: Any) -> None:
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Results"
    first.placeholders[1].text = "Revenue grew\nCosts fell"
    first.notes_slide.notes_text_frame.text = "Thank the team."
    second = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = second.shapes.add_table(2, 2, *PLACE).table
    for index, words in enumerate(("Year", "Staff", "2024", "31")):
        table.cell(index // 2, index % 2).text = words
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(*PLACE).text_frame.text = "Inside a group"
    third = presentation.slides.add_slide(presentation.slide_layouts[5])
    third.shapes.title.text = "Outlook"
    data = CategoryChartData()
    data.categories = ["2024", "2025"]
    data.add_series("Revenue", (4.2, 0))
    third.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *PLACE, data)


def test_slides_are_pages_and_titles_headings() -> None:
    parsed = parse("deck.pptx", slides(deck))
    assert [parsed.text[page.start : page.end].strip() for page in parsed.pages] == [
        "Results\n\n- Revenue grew\n- Costs fell\n\nNotes: Thank the team.",
        "Slide 2\n\nYear | Staff\n2024 | 31\n\nInside a group",
        "Outlook\n\nRevenue – 2024: 4.2; 2025: 0",
    ]
    assert [heading.title for heading in parsed.headings] == ["Results", "Slide 2", "Outlook"]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)
    assert all(page.start == heading.start for page, heading in zip(parsed.pages, parsed.headings, strict=True))
    assert parsed.title == "Results"


def test_too_many_slides_are_refused() -> None:
    with pytest.raises(UnreadableDocument, match="3 slides, allowed are 2"):
        parse("deck.pptx", slides(deck), ParseLimits(pages=2))


def test_a_cut_off_presentation_says_so() -> None:
    content = slides(deck)
    with pytest.raises(UnreadableDocument, match="damaged"):
        parse("deck.pptx", content[: len(content) // 2])
