"""Zip archives of documents: one document for each file in them, nested archives included.

Archives are opened when they arrive, so that every file in them has an id and a status of its own at once. Nothing is
written anywhere: names of members are only shown, and what an archive may unpack to is limited over a whole upload.
Knows which files are archives and what is in them; reads no format of what is in them.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, is_encrypted, open_container, uses_known_method
from ingest.parsing.detection import is_archive
from ingest.parsing.document import ParseLimits
from ingest.records import NewDocument

_UTF8_NAME = 0x800  # flag bit of an entry
_LONGEST_NAME = 255
_KEPT_OF_REFUSED = 65_536  # bytes of a member that cannot be unpacked, enough to know it again
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_LITTER_FOLDER = "__MACOSX"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What the archives of one upload may hold together.

    Attributes:
        files: most files.
        unpacked_bytes: most bytes they may unpack to.
        ratio: to how many times its size an archive may unpack.
        depth: how deep archives may lie in each other; 1 allows none inside another.
    """

    files: int = 1_000
    unpacked_bytes: int = 256 * 1024 * 1024
    ratio: int = 200
    depth: int = 2


def expand_archives(documents: Iterable[NewDocument], limits: ArchiveLimits) -> Iterator[NewDocument]:
    """``documents`` with every archive replaced by what is in it, one at a time; other documents as they are.

    A member is named by its path, after the paths of the archives it lies in; title, metadata and collection are the
    archive's. A member or archive that cannot be unpacked stays one document, with the reason in ``refused``.
    """
    budget = _Budget(limits.files, limits.unpacked_bytes)
    for document in documents:
        if document.is_text or not is_archive(document.content):
            yield document
        else:
            yield from _expanded(document, "", limits, limits.depth, budget)


@dataclass(slots=True)
class _Budget:
    """What is left of an upload's limits."""

    files: int
    unpacked_bytes: int


def _expanded(
    document: NewDocument, prefix: str, limits: ArchiveLimits, depth: int, budget: _Budget
) -> Iterator[NewDocument]:
    if depth < 1:
        reason = f"archives may lie {limits.depth} deep in each other, this one lies deeper; upload it by itself"
        yield replace(document, refused=reason)
        return
    allowed = ParseLimits(entries=budget.files, unpacked_bytes=budget.unpacked_bytes, ratio=limits.ratio)
    try:
        archive = open_container(document.content, allowed, "archive")
    except UnreadableDocument as error:
        yield replace(document, refused=str(error))
        return
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_litter(entry)]
        if not entries:
            yield replace(document, refused="the archive holds no files")
        budget.files -= len(entries)
        budget.unpacked_bytes -= sum(entry.file_size for entry in entries)
        for entry in entries:
            name = prefix + _shown(entry)
            try:
                content = _content(archive, entry)
            except UnreadableDocument as error:
                begin = entry.header_offset
                kept = document.content[begin : begin + min(entry.compress_size + 512, _KEPT_OF_REFUSED)]
                yield replace(document, name=name, content=kept, refused=str(error))
                continue
            member = replace(document, name=name, content=content)
            if is_archive(content):
                yield from _expanded(member, f"{name}/", limits, depth - 1, budget)
            else:
                yield member


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if is_encrypted(entry):
        raise UnreadableDocument("the file is password-protected in its archive; upload it without a password")
    if not uses_known_method(entry):
        raise UnreadableDocument("the file is packed by an unusual method; pack the archive again with the usual one")
    try:
        return archive.read(entry)
    except ZIP_ERRORS as error:
        raise UnreadableDocument(f"the file is damaged in its archive ({error})") from error


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    """Whether an operating system left the file there without being asked."""
    parts = entry.filename.split("/")
    return parts[0] == _LITTER_FOLDER or parts[-1] in _LITTER


def _shown(entry: zipfile.ZipInfo) -> str:
    """A member's path as it may be shown: relative, without steps upwards, printable."""
    name = entry.filename
    if not entry.flag_bits & _UTF8_NAME:
        with contextlib.suppress(UnicodeError):  # many programs write UTF-8 without saying so
            name = name.encode("cp437").decode("utf-8")
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", ".", ".."}]
    if parts and parts[0].endswith(":"):
        parts = parts[1:]
    shown = "".join(character for character in "/".join(parts) if character.isprintable()).strip()
    return shown[-_LONGEST_NAME:] or "file"
