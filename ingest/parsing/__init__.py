"""From files to text with structure: PDF, DOCX, HTML, Markdown and plain text.

``parse`` works in this process; ``ParserProcess`` (in ``ingest.parsing.isolated``) does the same in a child process
with limits on time and memory, which is what a service uses. Importing this package loads no parsing library.
"""

from __future__ import annotations

from ingest.parsing.dispatch import parse
from ingest.parsing.document import Heading, Page, ParsedDocument, ParseLimits
from ingest.parsing.isolated import ParserProcess
from ingest.parsing.pdf_page import PageImage

__all__ = ["Heading", "Page", "PageImage", "ParseLimits", "ParsedDocument", "ParserProcess", "parse"]
