"""Sets the staff handbook as a PDF: `python examples/make_documents.py` (needs fpdf2, from the `dev` extra).

The text is `staff-handbook.source.txt`: `#` marks the title and headings, an empty line ends a paragraph, a line of `=`
begins a new page. The same text gives the same bytes, so a rebuilt PDF shows no change in git.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from fpdf import FPDF

DOCUMENTS = Path(__file__).parent / "documents"
_POINTS = {1: 20.0, 2: 14.0, 3: 12.0}
_BODY_POINTS = 10.5


class _Handbook(FPDF):
    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 10, f"Page {self.page_no()}", align="C")


def make_handbook(source: Path, target: Path) -> None:
    """Write the PDF of a handbook's source text."""
    pdf = _Handbook(format="A4")
    pdf.set_margin(22)
    pdf.set_auto_page_break(True, margin=22)
    pdf.set_creation_date(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    pages = source.read_text(encoding="utf-8").split("\n=====\n")
    pdf.set_title(pages[0].splitlines()[0].removeprefix("# "))
    for page in pages:
        pdf.add_page()
        for block in page.strip().split("\n\n"):
            _write(pdf, block)
    pdf.output(str(target))


def _write(pdf: FPDF, block: str) -> None:
    text = block.lstrip("#")
    level = len(block) - len(text)
    if level:
        pdf.ln(3)
    pdf.set_font("Helvetica", "B" if level else "", _POINTS.get(level, _BODY_POINTS))
    pdf.multi_cell(0, 1.45 * pdf.font_size, text.strip(), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2.5)


if __name__ == "__main__":
    make_handbook(DOCUMENTS / "staff-handbook.source.txt", DOCUMENTS / "staff-handbook.pdf")
