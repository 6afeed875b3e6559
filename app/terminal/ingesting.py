"""`lorebase ingest`: files and folders into a tenant, and with `--watch` a folder that is kept in step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from app.client import LorebaseClient, ServiceError
from app.schemas import IngestedDocument, IngestResponse
from app.terminal.asking import json_object
from app.terminal.failures import CommandFailed, Unusable
from app.terminal.jobs import watched
from app.terminal.output import table
from app.terminal.session import Session, on_service

_PORTION_FILES = 50
_PORTION_BYTES = 8 * 1024**2
_BUSY_SECONDS = 2.0
_BUSY = frozenset({429, 503})


@on_service(creates=True)
def ingest(
    session: Session,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, and folders with all the files in them.")] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Keep a folder in step until the command is ended: new, changed, deleted files.")
    ] = None,
    poll: Annotated[bool, typer.Option("--poll", help="With --watch: look by time, as network folders need.")] = False,
    once: Annotated[bool, typer.Option("--once", help="With --watch: bring it in step once and end.")] = False,
    collection: Annotated[str, typer.Option(help="Where they belong.")] = "default",
    metadata: Annotated[str | None, typer.Option(help="A JSON object that every document gets.")] = None,
    split: Annotated[str | None, typer.Option(help="How to split them: a method's name or JSON.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until they can be found.")] = True,
) -> None:
    """Store files so that questions can be answered from them."""
    facts = json_object("--metadata", metadata)
    if watch is not None:
        if paths or split is not None or not wait:
            raise Unusable("--watch takes one folder, and neither files, nor --split, nor --no-wait.")
        from app.terminal.watching import keep_in_step

        keep_in_step(session, watch, collection, facts or {}, poll=poll, once=once)
        return
    files = list(files_of(paths or []))
    if not files:
        raise Unusable("Name at least one file, or a folder with files in it.")
    told = _ingest(session, files, {"collection": collection, "metadata": facts, "split": split}, wait=wait)
    failed = [document for document in told if document["status"] == "failed"]
    rows = [(d["id"], d["title"], d["status"], "duplicate" if d["duplicate"] else d["error"]) for d in told]
    shown = [table(("id", "title", "status", ""), rows, ""), Text(summary(told), "dim")]
    session.output.result({"documents": told, "failed": len(failed)}, *shown[: 1 if failed else 2])
    if failed:
        raise CommandFailed(summary(told), "documents_failed")


def summary(documents: Sequence[Mapping[str, Any]]) -> str:
    """How documents fared, in a line: `14 documents: 11 ready, 1 there already, 2 failed`."""
    fates = Counter("there already" if each["duplicate"] else str(each["status"]) for each in documents)
    named = [f"{fates[fate]} {fate}" for fate in ("ready", "there already", "pending", "failed") if fates[fate]]
    return f"{len(documents)} {'document' if len(documents) == 1 else 'documents'}: {', '.join(named)}"


def files_of(paths: Sequence[Path]) -> Iterator[Path]:
    """The files of paths, and of the folders among them; hidden ones are left out. Raises Unusable."""
    for path in paths:
        if path.is_dir():
            yield from (each for each in sorted(path.rglob("*")) if each.is_file() and not is_hidden(each, path))
        elif path.is_file():
            yield path
        else:
            raise Unusable(f"{path}: there is no such file or folder.")


def is_hidden(path: Path, root: Path) -> bool:
    """Whether it, or a folder it lies in below ``root``, is hidden or is a program's temporary file."""
    return any(part.startswith((".", "~$")) or part.endswith("~") for part in path.relative_to(root).parts)


def portions(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files by the request: few enough, and small enough together."""
    portion: list[Path] = []
    held = 0
    for file in files:
        size = file.stat().st_size
        if portion and (len(portion) == _PORTION_FILES or held + size > _PORTION_BYTES):
            yield portion
            portion, held = [], 0
        portion.append(file)
        held += size
    if portion:
        yield portion


def _ingest(session: Session, files: list[Path], given: dict[str, Any], *, wait: bool) -> list[dict[str, Any]]:
    """The documents the files became, as they stand at the end."""
    sent: list[IngestResponse] = []
    refused: list[dict[str, Any]] = []
    with session.output.progress() as progress:
        shown = progress.add_task("sending", total=len(files))
        for portion in portions(files):
            try:
                sent.append(_send(session.client, portion, given))
            except ServiceError as error:
                if error.status not in (413, 422) or len(files) == 1:
                    raise
                refused += [_refused(file, error) for file in portion]
            progress.advance(shown, len(portion))
        documents: list[IngestedDocument] = []
        for response in sent:
            if wait:
                ended = watched(session.client, session.client.job(response.job_id), progress, shown)
                states = {state.id: state for state in ended.documents}
                documents += [_joined(document, states) for document in response.documents]
            else:
                documents += response.documents
    return [document.model_dump(mode="json") for document in documents] + refused


def _send(client: LorebaseClient, portion: list[Path], given: dict[str, Any]) -> IngestResponse:
    while True:
        try:
            return client.ingest_files(portion, wait=False, **given)
        except ServiceError as error:
            if error.status not in _BUSY:
                raise
            time.sleep(_BUSY_SECONDS)


def _joined(document: IngestedDocument, states: dict[str, IngestedDocument]) -> IngestedDocument:
    state = states.get(document.id)
    return document if state is None else state.model_copy(update={"duplicate": document.duplicate})


def _refused(file: Path, error: ServiceError) -> dict[str, Any]:
    document = IngestedDocument(id="", title=file.name, status="failed", error=error.detail)
    return document.model_dump(mode="json")
