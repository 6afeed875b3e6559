"""`lorebase ingest --watch`: a folder's files are a tenant's documents, for as long as the command runs.

Every round looks at the folder and at the service's documents anew and does what `app.folder_sync` plans, so a round
that was cut off, a crash or a day without the command cost nothing but the next round.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import watchfiles

from app.client import ServiceError
from app.folder_sync import Kept, Plan, kept_document, plan, source_metadata
from app.schemas import DocumentResponse
from app.terminal.failures import Exit, Unusable
from app.terminal.ingesting import files_of
from app.terminal.output import json_line
from app.terminal.session import Session

_PAGE = 1000
_BUSY = frozenset({0, 429, 502, 503, 507})  # what passes by itself
_BUSY_SECONDS = 2.0
_MOST_ROUNDS = 10  # swapped and copied contents settle in two or three


class _Folder:
    """The watched folder: hashes of its files, read again only where a file has changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root.resolve())
        self._seen: dict[Path, tuple[tuple[int, int], str]] = {}

    def files(self) -> dict[str, str]:
        """sha256 by path below the root. A file that goes away meanwhile is left out; an empty one too."""
        found: dict[str, str] = {}
        seen: dict[Path, tuple[tuple[int, int], str]] = {}
        for path in files_of([self.root]):
            try:
                facts = path.stat()
                stamp = (facts.st_mtime_ns, facts.st_size)
                known = self._seen.get(path)
                sha256 = known[1] if known and known[0] == stamp else _sha256(path)
            except OSError:
                continue
            seen[path] = (stamp, sha256)
            if facts.st_size:
                found[path.relative_to(self.root).as_posix()] = sha256
        self._seen = seen
        return found


class _InStep:
    """Brings a tenant's documents in step with a folder, round by round."""

    def __init__(self, session: Session, folder: _Folder, collection: str, metadata: Mapping[str, Any]) -> None:
        self._session, self._client = session, session.client
        self._folder, self._collection, self._metadata = folder, collection, dict(metadata)
        self._passed_over: set[str] = set()

    def settle(self) -> None:
        """Do what there is to do, until nothing is."""
        for _ in range(_MOST_ROUNDS):
            files = self._folder.files()
            todo = plan(files, self._documents(), self._passed_over)
            if not todo:
                return
            self._do(todo, files)

    def _documents(self) -> list[Kept]:
        found: list[DocumentResponse] = []
        while True:
            page = self._client.documents(offset=len(found), limit=_PAGE, collection=self._collection)
            found += page.documents
            if not page.documents or len(found) >= page.total:
                break
        kept = [_as_sent(each, self._folder.name) for each in found]
        return [each for each in kept if each is not None]

    def _do(self, todo: Plan, files: Mapping[str, str]) -> None:
        """Deletions first: a file that was renamed is then no duplicate of itself."""
        for held in todo.delete:
            self._client.delete_document(held.id)
            self._tell("deleted", held.path, held.id)
        for held, path in todo.replace:
            self._replace(held, path, files[path])
        for path in todo.send:
            self._send(path, files[path])

    def _replace(self, held: Kept, path: str, sha256: str) -> None:
        try:
            self._client.replace_document(held.id, self._folder.root / path, metadata=self._facts(path, sha256))
        except ServiceError as error:
            if error.code == "same_content_elsewhere":  # the next round sends it, or finds it is there
                self._client.delete_document(held.id)
                return
            self._refused(path, sha256, error)
        except OSError:  # it went away; the next round sees that
            return
        else:
            self._tell("replaced", path, held.id)

    def _send(self, path: str, sha256: str) -> None:
        try:
            response = self._client.ingest_files(
                [self._folder.root / path], metadata=self._facts(path, sha256), collection=self._collection
            )
        except ServiceError as error:
            self._refused(path, sha256, error)
            return
        except OSError:
            return
        document = response.documents[0]
        if document.duplicate:
            self._passed_over.add(sha256)
            self._tell("duplicate", path, document.id)
        else:
            self._tell(document.status, path, document.id, document.error)

    def _refused(self, path: str, sha256: str, error: ServiceError) -> None:
        if error.status in _BUSY or error.status in (401, 403):
            raise error
        self._passed_over.add(sha256)
        self._tell("refused", path, None, error.detail)

    def _facts(self, path: str, sha256: str) -> dict[str, Any]:
        return {**self._metadata, **source_metadata(self._folder.name, path, sha256)}

    def _tell(self, what: str, path: str, document_id: str | None, error: str | None = None) -> None:
        if self._session.output.as_json:
            typer.echo(json_line({"event": what, "path": path, "document_id": document_id, "error": error}))
        else:
            self._session.output.console.print(f"{what:<10} {path}" + (f": {error}" if error else ""), markup=False)


def keep_in_step(
    session: Session, root: Path, collection: str, metadata: Mapping[str, Any], *, poll: bool, once: bool
) -> None:
    """Keep documents in step with a folder until the command is ended; with ``once``, bring them in step and return."""
    if not root.is_dir():
        raise Unusable(f"{root}: there is no such folder.")
    in_step = _InStep(session, _Folder(root), collection, metadata)
    if once:
        in_step.settle()
        return
    stop = threading.Event()
    try:
        changes = watchfiles.watch(
            root, force_polling=poll, stop_event=stop, raise_interrupt=True, yield_on_timeout=True
        )
        _settle_patiently(in_step, session)
        session.output.note(f"{root} is in step; watching it")
        for changed in changes:
            if changed:
                _settle_patiently(in_step, session)
    except KeyboardInterrupt as error:
        raise typer.Exit(Exit.INTERRUPTED) from error
    finally:
        stop.set()


def _settle_patiently(in_step: _InStep, session: Session) -> None:
    """Bring the folder in step; a service that is away or busy is waited for."""
    said = ""
    while True:
        try:
            in_step.settle()
        except ServiceError as error:
            if error.status not in _BUSY:
                raise
            if error.detail != said:
                session.output.note(f"waiting: {error.detail}", "yellow")
                said = error.detail
            time.sleep(_BUSY_SECONDS)
        else:
            return


def _as_sent(document: DocumentResponse, folder: str) -> Kept | None:
    return kept_document(document.id, document.metadata, folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
