"""HTML: the main content of a page, without navigation and other frames around it.

Trafilatura finds the main content; where it finds next to nothing (short pages, lists of links), the visible text of
the body is taken instead. Knows HTML; fetches nothing.
"""

from __future__ import annotations

import re
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import HTML
from ingest.parsing.document import ParsedDocument, TextBuilder, one_line, squeeze_spaces, table_row
from ingest.parsing.plain import decode

# Below this the extraction counts as "next to nothing" when the page shows more.
_LEAST_CHARACTERS = 300
_LEAST_SHARE = 0.1

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_REFERENCE_MARK = re.compile(r"\[\s*(?:\d{1,4}|[a-z]|update|edit|citation needed|note \d+)\s*\]", re.IGNORECASE)
_HEADING_TAG = re.compile(r"h([1-6])$")
_SPACE_BEFORE_PUNCTUATION = re.compile(r"[ \t]+([,.;:!?)\]])(?=\s|$)")
_PILCROWS = "\u200b¶#§ \n\t"


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_INVISIBLE = _tags("script style noscript template head svg math iframe object select button input")
_FRAMES = _tags("nav header footer aside form")
_BLOCKS = _tags(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure "
    "footer form header hgroup html legend main nav ol p pre quote section summary table tbody thead tfoot ul "
    "list item li head row tr"
)


def parse_html(content: bytes) -> ParsedDocument:
    """The main content of an HTML page, its headings and its title.

    Raises:
        UnreadableDocument: the content is no HTML at all.
    """
    source = decode_html(content)
    main = _Renderer(TextBuilder())
    title: str | None = None
    from trafilatura import bare_extraction

    tree = _tree(source)
    if tree is not None:
        _flatten_cells(tree)
    found: Any = bare_extraction(
        source if tree is None else tree,
        include_comments=False,
        include_tables=True,
        include_links=True,
        include_formatting=True,
        favor_recall=True,
        with_metadata=True,
    )
    if found is not None and found.body is not None:
        main.render(found.body)
        title = found.title
    visible, page_title = _visible(source)
    shown, extracted = visible.builder.length, main.builder.length
    # A short page has no frames worth finding, and the extraction flattens its headings.
    if shown and (extracted < _LEAST_CHARACTERS or extracted < _LEAST_SHARE * shown):
        main = visible
    return main.builder.finish(HTML, title or page_title)


def _flatten_cells(root: Any) -> None:
    """Leave only text in the cells of tables of data: the extraction loses links and lists inside them."""
    for table in root.iter("table"):
        if table.find(".//table") is not None:
            continue  # a table that lays out a page
        for cell in table.iter("td", "th"):
            if cell.find(".//pre") is not None or cell.find(".//p/following-sibling::p") is not None:
                continue
            for item in cell.iter("li"):
                if item.getnext() is not None:
                    item.tail = ", "
            text = _text_of(cell)
            for child in list(cell):
                cell.remove(child)
            cell.text = text


def write_html(source: str, builder: TextBuilder) -> None:
    """Append everything a browser would show of ``source`` to ``builder``; for pages without frames around them."""
    root = _tree(source)
    if root is not None:
        _Renderer(builder, skip=_INVISIBLE).render(root)


def first_heading(source: str) -> str | None:
    """The words of the first heading of a page."""
    root = _tree(source)
    found = root.xpath("//h1 | //h2 | //h3 | //h4 | //h5 | //h6") if root is not None else []
    return next((text for each in found if (text := _text_of(each))), None)


def decode_html(content: bytes) -> str:
    """Bytes as text: UTF-8, or the encoding the page declares, or by detection.

    Raises:
        UnreadableDocument: the content is binary.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        declared = _META_CHARSET.search(content[:4096])
    if declared:
        try:
            return content.decode(declared.group(1).decode("ascii"))
        except (UnicodeDecodeError, LookupError):
            pass
    return decode(content)


def _visible(source: str) -> tuple[_Renderer, str | None]:
    """Everything a browser would show, without the page's frames where something is left without them."""
    root = _tree(source)
    if root is None:
        raise UnreadableDocument("the HTML holds nothing that can be read")
    titles = root.xpath("//title/text() | //h1//text()")
    inner = _Renderer(TextBuilder(), skip=_INVISIBLE | _FRAMES)
    inner.render(root)
    if inner.builder.length == 0:
        inner = _Renderer(TextBuilder(), skip=_INVISIBLE)
        inner.render(root)
    return inner, str(titles[0]) if titles else None


def _tree(source: str) -> Any | None:
    """The page as lxml elements; ``None`` when there is not one."""
    from lxml import etree, html  # type: ignore[import-untyped]

    try:
        # Bytes, because lxml refuses text that carries an encoding declaration.
        parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
        return html.document_fromstring(source.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None


class _Renderer:
    """Writes a tree of HTML elements, or of trafilatura's, as blocks of text."""

    def __init__(self, builder: TextBuilder, skip: frozenset[str] = frozenset()) -> None:
        self.builder = builder
        self._skip = skip
        self._inline: list[str] = []
        self._separator = "\n\n"
        self._lists: list[int | None] = []  # per open list the last number, None for bullets
        self._prefix = ""

    def render(self, element: Any) -> None:
        """Write ``element`` and everything in it."""
        self._walk(element)
        self._flush()

    def _walk(self, element: Any) -> None:
        tag = element.tag if isinstance(element.tag, str) else None
        if tag is None or tag in self._skip or element.get("hidden") is not None:
            return
        level = _heading_level(element, tag)
        if level:
            self._flush()
            self.builder.heading(level, _text_of(element).strip(_PILCROWS))
        elif tag in {"tr", "row"}:
            self._row(element)
        elif tag in {"pre", "code"} and "\n" in _raw(element):
            self._flush()
            self.builder.block(_raw(element).strip("\n"))
        elif tag in {"ul", "ol", "list"}:
            self._list(element, tag)
        elif tag in {"li", "item"}:
            self._item(element)
        elif tag in {"br", "lb"}:
            self._inline.append("\n")
        else:
            self._children(element, block=tag in _BLOCKS)

    def _children(self, element: Any, block: bool) -> None:
        if block:
            self._flush()
        self._inline.append(_collapse(element.text))
        for child in element:
            self._walk(child)
            self._inline.append(_collapse(child.tail))
        if block:
            self._flush()

    def _list(self, element: Any, tag: str) -> None:
        self._flush()
        ordered = tag == "ol" or element.get("rend") == "ol"
        self._lists.append(0 if ordered else None)
        self._children(element, block=True)
        self._lists.pop()
        if not self._lists:
            self._separator = "\n\n"

    def _item(self, element: Any) -> None:
        self._flush()
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        indent = "  " * max(len(self._lists) - 1, 0)
        self._prefix = indent + ("- " if number is None else f"{number + 1}. ")
        self._children(element, block=True)
        self._prefix = ""
        self._separator = "\n"

    def _row(self, element: Any) -> None:
        self._flush()
        cells = [_text_of(cell) for cell in element if isinstance(cell.tag, str) and cell.tag in {"td", "th", "cell"}]
        if not any(cells):
            return
        first = element.getprevious() is None and element.getparent().tag not in {"tbody", "tfoot"}
        self.builder.block(table_row(cells), "\n\n" if first else "\n")
        self._separator = "\n\n"

    def _flush(self) -> None:
        text = _REFERENCE_MARK.sub("", "".join(self._inline))
        self._inline.clear()
        text = _SPACE_BEFORE_PUNCTUATION.sub(r"\1", squeeze_spaces(text))
        if not text:
            return
        inside_list = bool(self._lists) and bool(self._prefix)
        self.builder.block(self._prefix + text, "\n" if inside_list and self._separator == "\n" else "\n\n")
        self._separator = "\n" if self._lists else "\n\n"
        self._prefix = ""


def _heading_level(element: Any, tag: str) -> int | None:
    # In trafilatura's trees a heading is <head rend="h2">; in HTML <head> is skipped.
    match = _HEADING_TAG.match((element.get("rend") or "h3") if tag == "head" else tag)
    return int(match.group(1)) if match else None


def _raw(element: Any) -> str:
    return "".join(element.itertext())


def _text_of(element: Any) -> str:
    """The text of an element and all in it on one line."""
    pieces = [element.text or ""]
    for child in element:
        tag = child.tag if isinstance(child.tag, str) else ""
        text = "" if not tag or tag in _INVISIBLE - {"head"} else _text_of(child)
        spaced = tag in _BLOCKS or tag in {"lb", "br"}
        pieces.append(f" {text} " if spaced else text)
        pieces.append(child.tail or "")
    joined = one_line(_REFERENCE_MARK.sub("", "".join(pieces)))
    return _SPACE_BEFORE_PUNCTUATION.sub(r"\1", joined)


def _collapse(text: str | None) -> str:
    return re.sub(r"\s+", " ", text) if text else ""
