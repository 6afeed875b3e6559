"""Plain text and Markdown: finding the encoding, and the headings of Markdown.

Knows encodings and Markdown's heading syntax. Markdown is kept as it was written; only its headings are noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import MARKDOWN, PLAIN, binary
from ingest.parsing.document import Heading, ParsedDocument, clean_text, one_line

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROL_BYTES = bytes(code for code in (*range(9), *range(14, 32), 127) if code != 27)
_MOST_CONTROL = 0.01
_FEW_FOREIGN = 0.1
_DETECTION_BYTES = 1024 * 1024

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NO_SETEXT_TITLE = re.compile(r"\s*(?:[-*+>|#]|\d+[.)]\s|$)")
_INLINE = re.compile(r"[*_`]{1,3}(\S(?:.*?\S)?)[*_`]{1,3}|!?\[([^\]]*)\]\([^)]*\)")
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)


def parse_plain(content: bytes) -> ParsedDocument:
    """Text as it is, with ``\\n`` as newline."""
    return ParsedDocument(text=clean_text(decode(content)), media_type=PLAIN)


def parse_markdown(content: bytes) -> ParsedDocument:
    """Markdown as it is written, with its headings; the title is that of the front matter or the first heading's."""
    text = clean_text(decode(content))
    front = _FRONT_MATTER.match(text)
    headings = tuple(markdown_headings(text, front.end() if front else 0))
    named = _FRONT_TITLE.search(front.group(1)) if front else None
    title = one_line(named.group(2)) if named else None
    if not title and headings and headings[0].level == 1:
        title = headings[0].title
    return ParsedDocument(text=text, media_type=MARKDOWN, headings=headings, title=title or None)


def markdown_headings(text: str, start: int = 0) -> Iterator[Heading]:
    """The ATX and setext headings of Markdown, without those inside code fences."""
    fence: str | None = None
    before: tuple[int, str] | None = None  # the line above, when it can be a setext heading's
    position = start
    for line in text[start:].splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        opened = _FENCE.match(bare)
        if fence is not None:
            if opened and opened.group(1).startswith(fence) and bare.strip() == opened.group(1):
                fence = None
        elif opened:
            fence, before = opened.group(1), None
        elif atx := _ATX.match(bare):
            if title := _bare_title(atx.group(2)):
                yield Heading(position, len(atx.group(1)), title)
            before = None
        elif before and (underline := _SETEXT.match(bare)):
            if title := _bare_title(before[1]):
                yield Heading(before[0], 1 if underline.group(1)[0] == "=" else 2, title)
            before = None
        else:
            # Only a line with a blank one above it: a paragraph's last line over a rule is no heading.
            first = before is None and not _NO_SETEXT_TITLE.match(bare) and _after_blank(text, position)
            before = (position, bare) if first else None
        position += len(line)


def decode(content: bytes) -> str:
    """Bytes as text: by byte order mark, as UTF-8, or by detection.

    Raises:
        UnreadableDocument: the content is binary, or no encoding fits.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _checked(content, encoding)
    if b"\x00" in content or _control_share(content) > _MOST_CONTROL:
        raise binary()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    repaired = content.decode("utf-8", "replace")
    broken = repaired.count("\ufffd")
    foreign = sum(byte >= 128 for byte in content)
    if sum(character > "\x7f" for character in repaired) > 2 * broken:
        return repaired  # UTF-8 with a few damaged places
    if foreign < _FEW_FOREIGN * len(content):
        return content.decode("cp1252", "replace")  # too little to detect by: what Western editors write
    from charset_normalizer import from_bytes

    best = from_bytes(content[:_DETECTION_BYTES]).best()
    if best is None:
        raise UnreadableDocument("the file's character encoding is not recognised; save it as UTF-8")
    return content.decode(best.encoding, "replace")


def _checked(content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"the file begins as {encoding} but does not go on so: it is damaged") from error
    if "\x00" in text:
        raise binary()
    return text


def _control_share(content: bytes) -> float:
    return 1 - len(content.translate(None, _CONTROL_BYTES)) / len(content)


def _bare_title(title: str) -> str:
    return one_line(_INLINE.sub(lambda match: match.group(1) or match.group(2) or "", title))


def _after_blank(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, max(position - 1, 0)) + 1 : position].strip()
