"""What has to be done so that a tenant's documents are those of a folder: pure decisions over plain data.

A document made from a watched folder carries in its metadata which folder, which path and which content it is of, so a
restart, or another machine, needs no memory of its own. Knows no file system and no service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FOLDER, PATH, SHA256 = "source_folder", "source_path", "source_sha256"


@dataclass(frozen=True, slots=True)
class Kept:
    """A document of the folder: its id, the path and the hash of the content it was made of."""

    id: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Documents to replace by a path's content, to delete, and paths to send."""

    replace: tuple[tuple[Kept, str], ...] = ()
    delete: tuple[Kept, ...] = ()
    send: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.replace or self.delete or self.send)


def kept_document(document_id: str, metadata: Mapping[str, Any], folder: str) -> Kept | None:
    """A document of the folder by its metadata; None for any other."""
    path, sha256 = metadata.get(PATH), metadata.get(SHA256)
    if metadata.get(FOLDER) != folder or not isinstance(path, str) or not isinstance(sha256, str):
        return None
    return Kept(document_id, path, sha256)


def source_metadata(folder: str, path: str, sha256: str) -> dict[str, str]:
    """What a document of the folder carries."""
    return {FOLDER: folder, PATH: path, SHA256: sha256}


def plan(files: Mapping[str, str], kept: Iterable[Kept], passed_over: Iterable[str] = ()) -> Plan:
    """What brings the documents in step with the files.

    Files of the same content are one document, as the service has it: the first by path that has one already, else the
    first.

    Args:
        files: sha256 by path.
        kept: the folder's documents.
        passed_over: contents that the service refused, or has from elsewhere: they are not sent again.
    """
    left_out = set(passed_over)
    documents = {each.path: each for each in kept}
    chosen: dict[str, str] = {}  # path by content
    for path, sha256 in sorted(files.items()):
        held = documents.get(path)
        is_there = held is not None and held.sha256 == sha256
        if sha256 not in chosen or (is_there and not _is_there(documents, chosen[sha256], sha256)):
            chosen[sha256] = path
    wanted = {path: sha256 for sha256, path in chosen.items()}
    replace = tuple(
        (held, path)
        for path, held in sorted(documents.items())
        if path in wanted and wanted[path] != held.sha256 and wanted[path] not in left_out
    )
    delete = tuple(held for path, held in sorted(documents.items()) if path not in wanted)
    send = tuple(path for path, sha256 in sorted(wanted.items()) if path not in documents and sha256 not in left_out)
    return Plan(replace, delete, send)


def _is_there(documents: Mapping[str, Kept], path: str, sha256: str) -> bool:
    held = documents.get(path)
    return held is not None and held.sha256 == sha256
