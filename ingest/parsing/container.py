"""Opening zip files, which most office formats and archives are, without being blown up by them.

A zip can promise more than a machine can hold: everything it declares is checked before a byte of it is unpacked, and
``zipfile`` never gives out more of an entry than is declared. Knows zip; nothing of the formats that are packed in it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from ingest.errors import UnreadableDocument
from ingest.parsing.document import ParseLimits

ZIP_ERRORS = (
    zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError, EOFError, struct.error, zlib.error
)  # fmt: skip
"""What ``zipfile`` raises on damaged or strange archives."""

_DIRECTORY_ENTRY = b"PK\x01\x02"
_DIRECTORY_END = b"PK\x05\x06"
_ENCRYPTED = 1  # flag bit of an entry
# Below this no ratio is suspicious: a short file of one repeated letter is not a bomb.
_HARMLESS_BYTES = 16 * 1024 * 1024
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def open_container(content: bytes, limits: ParseLimits, what: str) -> zipfile.ZipFile:
    """The zip file, its promises checked.

    Args:
        content: the whole file.
        limits: ``entries``, ``unpacked_bytes`` and ``ratio`` hold for the file as a whole.
        what: how messages call it, such as "Word document".

    Raises:
        UnreadableDocument: it is damaged, has too many entries or would unpack to too much.
    """
    # The list is held in memory, about a kilobyte for an entry: counted before it is read.
    entries = _entries(content)
    if entries > limits.entries:
        raise UnreadableDocument(f"the {what} has {entries} entries, allowed are {limits.entries}; split it")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except ZIP_ERRORS as error:
        raise UnreadableDocument(f"the {what} is damaged: it is no complete zip file ({error})") from error
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > limits.unpacked_bytes:
        raise UnreadableDocument(
            f"the {what} would unpack to {unpacked // 2**20} MB, allowed are {limits.unpacked_bytes // 2**20} MB"
        )
    if unpacked > _HARMLESS_BYTES and unpacked > limits.ratio * len(content):
        raise UnreadableDocument(
            f"the {what} would unpack to {unpacked // len(content)} times its size, allowed is {limits.ratio} times: "
            "it looks like a zip bomb"
        )
    return archive


def refuse_encrypted(archive: zipfile.ZipFile, what: str) -> None:
    """Raise ``UnreadableDocument`` when any entry needs a password."""
    if any(is_encrypted(entry) for entry in archive.infolist()):
        raise UnreadableDocument(f"the {what} is password-protected; remove the password and upload it again")


def is_encrypted(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry needs a password."""
    return bool(entry.flag_bits & _ENCRYPTED)


def uses_known_method(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is stored or deflated, as nearly all are; other methods may ask for gigabytes of memory."""
    return entry.compress_type in _METHODS


def _entries(content: bytes) -> int:
    """How many entries the directory at the end of the file can have at most."""
    end = content.rfind(_DIRECTORY_END)
    if end < 0:
        return 0
    size = int.from_bytes(content[end + 12 : end + 16], "little")
    return content.count(_DIRECTORY_ENTRY, max(end - size, 0), end)
