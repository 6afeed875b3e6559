"""A whole body of documents through a real server: `python -m benchmarks.bodies FOLDER` (or `make bench NAME=bodies`).

Sends every file of a folder to a server process of its own, a few at a time, follows the jobs with their progress, and
counts what became of each. Nothing may fail that the service could have read. For instance the documentation that
Debian packages ship: `apt-get download python3.11-doc && dpkg -x python3.11-doc_*.deb docs`. A page is 3,000 characters
of text, since most formats have none.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.client import LorebaseClient, ServiceError
from app.local_server import local_server
from benchmarks.measure import report

_PAGE_CHARACTERS = 3000
_SUFFIXES = (".docx", ".epub", ".htm", ".html", ".md", ".pdf", ".pptx", ".rst", ".txt", ".xlsx")
_FILES_AT_ONCE = 20
_BYTES_AT_ONCE = 8 * 1024**2
_LOOK_SECONDS = 1.0
_QUICK_FILES = 40


@dataclass(slots=True)
class Fate:
    """What became of the files."""

    files: int = 0
    duplicates: int = 0
    chunks: int = 0
    characters: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files below a folder with these endings, none empty, each once where links lead to it twice."""
    found = (path.resolve() for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes)
    return [path for path in dict.fromkeys(found) if path.is_file() and path.stat().st_size]


def portions(files: Sequence[Path]) -> Iterator[list[Path]]:
    """The files, as many at once as one request should hold."""
    portion: list[Path] = []
    for path in files:
        size = sum(each.stat().st_size for each in portion) + path.stat().st_size
        if portion and (len(portion) == _FILES_AT_ONCE or size > _BYTES_AT_ONCE):
            yield portion
            portion = []
        portion.append(path)
    if portion:
        yield portion


def send(client: LorebaseClient, files: Sequence[Path], progress: Progress) -> Fate:
    """Ingest the files, one request after the other, and follow each job to its end."""
    fate = Fate()
    task = progress.add_task("files", total=len(files), now="")
    for portion in portions(files):
        try:
            answer = client.ingest_files(portion, wait=False)
        except ServiceError as error:
            fate.failures |= {str(path): str(error) for path in portion}
            continue
        _follow(client, answer.job_id, fate.files, progress, task)
        for path, sent in zip(portion, answer.documents, strict=True):
            fate.files += 1
            fate.duplicates += sent.duplicate
            document = client.document(sent.id)
            if document.status != "ready":
                fate.failures[str(path)] = document.error or document.status
            elif not sent.duplicate:
                fate.chunks += document.chunks or 0
                fate.characters += document.characters or 0
    return fate


def _follow(client: LorebaseClient, job_id: str, before: int, progress: Progress, task: TaskID) -> None:
    while (job := client.job(job_id)).state in ("queued", "running"):
        eta = f", {job.eta_seconds:.0f} s left" if job.eta_seconds is not None else ""
        chunks = f"{job.chunks.done}/{job.chunks.total} chunks" if job.chunks is not None else ""
        progress.update(task, completed=before + job.progress.done, now=f"{job.stage or job.state} {chunks}{eta}")
        time.sleep(_LOOK_SECONDS)
    progress.update(task, completed=before + job.progress.total)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="A whole body of documents through a real server.")
    parser.add_argument("folder", type=Path, help="the documents; folders below it too")
    parser.add_argument("--suffixes", nargs="*", default=_SUFFIXES, help="endings of the files that are sent")
    parser.add_argument("--files", type=int, help="so many files, evenly taken (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_FILES} files")
    given = parser.parse_args()
    files = files_in(given.folder, given.suffixes)
    wanted = given.files or (_QUICK_FILES if given.quick else len(files))
    if not files:
        parser.error(f"no file to ingest in {given.folder}")
    files = files[:: max(1, len(files) // wanted)][:wanted]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[now]}"))  # fmt: skip
    with local_server() as server, server.client() as client, Progress(*columns, console=Console(stderr=True)) as shown:
        began = time.monotonic()
        fate = send(client, files, shown)
        seconds = time.monotonic() - began
    show(given.folder, fate, seconds)


def show(folder: Path, fate: Fate, seconds: float) -> None:
    """Print what became of the files, and the figures."""
    pages = round(fate.characters / _PAGE_CHARACTERS)
    for path, reason in fate.failures.items():
        print(f"{os.path.relpath(path, folder.resolve())}: {reason}")
    for reason, count in Counter(fate.failures.values()).most_common(5):
        print(f"{count} × {reason}")
    figures = {
        "files": fate.files, "pages": pages, "chunks": fate.chunks, "duplicates": fate.duplicates,
        "failures": len(fate.failures), "seconds": round(seconds, 1), "chunks_per_s": round(fate.chunks / seconds, 1),
    }  # fmt: skip
    report(
        f"The documents of {folder.name}",
        [(name, str(value), "") for name, value in figures.items()],
        f"The bound: no failure: {'NOT kept' if fate.failures else 'kept'}.",
        figures,
    )


if __name__ == "__main__":
    main()
