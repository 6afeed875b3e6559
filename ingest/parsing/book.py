"""EPUB: the chapters in the order of the spine, named as the table of contents names them.

Knows the package format; chapters are HTML and are read as such (``ingest.parsing.web``).
"""

from __future__ import annotations

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, is_encrypted, open_container
from ingest.parsing.detection import EPUB
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder, one_line, reason_of
from ingest.parsing.web import decode_html, first_heading, write_html

_CONTAINER = "META-INF/container.xml"
_RIGHTS = "META-INF/encryption.xml"
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_CHAPTER_TYPES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def parse_epub(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of a book.

    Raises:
        UnreadableDocument: the file is damaged, protected, or larger than the limits.
    """
    with open_container(content, limits, "EPUB book") as archive:
        try:
            return _parse(archive, limits)
        except ZIP_ERRORS as error:
            raise UnreadableDocument(f"the EPUB book is damaged ({reason_of(error)})") from error


def _parse(archive: zipfile.ZipFile, limits: ParseLimits) -> ParsedDocument:
    names = set(archive.namelist())
    _refuse_protected(archive, names)
    container = _xml(archive, _CONTAINER) if _CONTAINER in names else None
    paths = container.xpath("//*[local-name()='rootfile']/@full-path") if container is not None else []
    package_path = str(paths[0]) if paths else next((name for name in sorted(names) if name.endswith(".opf")), "")
    if package_path not in names:
        raise UnreadableDocument("the EPUB book is damaged: it has no package document")
    package = _xml(archive, package_path)
    folder = posixpath.dirname(package_path)
    items = {
        str(item.get("id")): (_within(folder, item.get("href") or ""), item)
        for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']")
    }
    chapters = _contents(archive, items, names)
    builder = TextBuilder()
    for reference in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']/@idref"):
        path, item = items.get(str(reference), ("", None))
        if item is None or path not in names or item.get("media-type") not in _CHAPTER_TYPES:
            continue
        if "nav" in (item.get("properties") or "").split():
            continue  # the table of contents
        source = decode_html(archive.read(path))
        if path in chapters and first_heading(source) is None:
            builder.heading(1, chapters[path])
        write_html(source, builder)
        if builder.length > limits.characters:
            raise UnreadableDocument(f"the EPUB book holds more than {limits.characters} characters of text; split it")
    titles = package.xpath("//*[local-name()='metadata']/*[local-name()='title']/text()")
    return builder.finish(EPUB, str(titles[0]) if titles else None)


def _refuse_protected(archive: zipfile.ZipFile, names: set[str]) -> None:
    protected = any(is_encrypted(entry) for entry in archive.infolist())
    if _RIGHTS in names:
        methods = _xml(archive, _RIGHTS).xpath("//*[local-name()='EncryptionMethod']/@Algorithm")
        protected = protected or any(method not in _FONT_OBFUSCATION for method in methods)
    if protected:
        raise UnreadableDocument("the EPUB book is protected (DRM or a password); only unprotected books can be read")


def _contents(archive: zipfile.ZipFile, items: dict[str, tuple[str, Any]], names: set[str]) -> dict[str, str]:
    """Path of a chapter's file → its title, from the navigation document (EPUB 3) or the NCX (EPUB 2)."""
    found: dict[str, str] = {}
    for path, item in items.values():
        if path not in names:
            continue
        folder = posixpath.dirname(path)
        if "nav" in (item.get("properties") or "").split():
            links = _xml(archive, path).xpath("//*[local-name()='a'][@href]")
            entries = [(link.get("href"), "".join(link.itertext())) for link in links]
        elif item.get("media-type") == "application/x-dtbncx+xml":
            points = _xml(archive, path).xpath("//*[local-name()='navPoint']")
            entries = [
                (
                    "".join(point.xpath("./*[local-name()='content']/@src")[:1]),
                    "".join(point.xpath("./*[local-name()='navLabel']//text()")),
                )
                for point in points
            ]
        else:
            continue
        for target, title in entries:
            if "#" not in target and one_line(title):
                found.setdefault(_within(folder, target), one_line(title))
    return found


def _within(folder: str, target: str) -> str:
    """The name of an entry that ``target``, seen from ``folder``, stands for."""
    return posixpath.normpath(posixpath.join(folder, unquote(target.partition("#")[0])))


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    from lxml import etree  # type: ignore[import-untyped]

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, remove_comments=True)
    try:
        root = etree.fromstring(archive.read(name), parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        raise UnreadableDocument(f"the EPUB book is damaged: {name} is no XML")
    return root
