"""Source code: the text as it is, with the lines that begin classes and functions as headings.

Looks at lines only, never runs or compiles anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingest.parsing.detection import SOURCE
from ingest.parsing.document import Heading, ParsedDocument, clean_text, one_line
from ingest.parsing.languages import Language, language
from ingest.parsing.plain import decode

_LONGEST_LINE = 400  # a definition's line is short; minified code has lines of megabytes
_DEEPEST_LEVEL = 6


def parse_source(content: bytes, media_type: str) -> ParsedDocument:
    """Source code with its definitions; ``media_type`` is ``text/x-LANGUAGE``."""
    text = clean_text(decode(content))
    spoken = language(media_type.removeprefix(SOURCE))
    return ParsedDocument(text=text, media_type=media_type, headings=tuple(_definitions(text, spoken)))


def _definitions(text: str, spoken: Language) -> Iterator[Heading]:
    if spoken.definition is None:
        return
    position = 0
    indents: list[int] = []  # of the definitions that enclose the present line
    for line in text.split("\n"):
        found = spoken.definition.match(line) if len(line) <= _LONGEST_LINE else None
        if found is not None and (title := one_line(found.group("name"))):
            indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip())
            while indents and indents[-1] >= indent:
                indents.pop()
            indents.append(indent)
            yield Heading(position, min(len(indents), _DEEPEST_LEVEL), title)
        position += len(line) + 1
