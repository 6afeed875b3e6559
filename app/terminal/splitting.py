"""The command `lorebase split`: parses a file here, without a service, and shows where it would be cut.

What it shows goes to standard output, errors to standard error. Exit code 2 means that the command was given something
it cannot use; 1, that a model could not be loaded.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from adapters.errors import AdapterError
from app.completion import EngineCompletion
from app.settings import BUILTIN, Settings
from ingest import (
    Chunk,
    EmbedderUnavailable,
    Method,
    ParsedDocument,
    SplitConfig,
    SplitResult,
    UnreadableDocument,
    make_embedder,
    parse,
    split,
)
from ingest.errors import SplitUnavailable
from ingest.splitting import LARGEST_SIZE, SMALLEST_SIZE, check_available

_COLOURS = ("cyan", "yellow")
_REPEATED = "magenta underline"
_BINS = 10
_BAR = 40
_PLAIN_WIDTH = 100


@dataclass(frozen=True, slots=True)
class SplitFile:
    """A file, split."""

    document: ParsedDocument
    config: SplitConfig
    result: SplitResult
    seconds: float


def split_command(
    file: Annotated[Path, typer.Argument(help="Any file that the service reads.")],
    method: Annotated[Method, typer.Option(help="How to split; see docs/splitting.md.")] = "recursive",
    size: Annotated[
        int, typer.Option(min=SMALLEST_SIZE, max=LARGEST_SIZE, help="Longest chunk, in characters.")
    ] = 1000,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Most characters repeated from the chunk before; at most half of size.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the offsets, as one JSON object.")] = False,
) -> None:
    """Show where a file would be cut into chunks."""
    if overlap is not None and overlap * 2 > size:
        raise _exit(f"--overlap may be at most half of --size: {size // 2} here.", 2)
    config = SplitConfig(size, -1 if overlap is None else overlap, method=method)
    try:
        done = split_file(file, config)
    except (OSError, UnreadableDocument) as error:
        raise _exit(f"{file}: {error.strerror if isinstance(error, OSError) else error}", 2) from error
    except (SplitUnavailable, ValidationError) as error:
        raise _exit(str(error), 2) from error
    except (EmbedderUnavailable, AdapterError) as error:
        raise _exit(str(error), 1) from error
    if as_json:
        typer.echo(json.dumps(offsets(done), ensure_ascii=False))
    else:
        show(done, Console(width=None if Console().is_terminal else _PLAIN_WIDTH, highlight=False))


def split_file(path: Path, config: SplitConfig) -> SplitFile:
    """Read and split a file with the models that the settings name, each loaded only if the method needs it.

    Raises:
        OSError, UnreadableDocument: the file cannot be read.
        SplitUnavailable, EmbedderUnavailable, AdapterError: a model is not there or cannot be loaded.
    """
    document = parse(path.name, path.read_bytes())
    with ExitStack() as stack:
        complete = encode = None
        if config.method == "agentic":
            answering = Settings().model
            if answering == BUILTIN:
                check_available(config, None)
            from adapters import CausalEngine  # loads torch

            engine = CausalEngine(answering)
            stack.callback(engine.close)
            engine.load()
            complete = EngineCompletion(engine, "", threading.Event())
        elif config.method == "semantic":
            settings = Settings()
            model = None if settings.embedder == BUILTIN else settings.embedder
            encode = make_embedder(model, settings.embedding_backend).encode
            encode(["ready?"])
        began = time.perf_counter()
        result = split(document, config, encode, complete)
        assert result is not None  # noqa: S101 - nobody asks it to stop
        return SplitFile(document, config, result, time.perf_counter() - began)


def offsets(done: SplitFile) -> dict[str, object]:
    """What --json prints."""
    config = done.config
    return {
        "method": config.method,
        "size": config.size,
        "overlap": config.overlap,
        "media_type": done.document.media_type,
        "characters": len(done.document.text),
        "note": done.result.note,
        "chunks": [asdict(chunk) for chunk in done.result.chunks],
    }


def show(done: SplitFile, console: Console) -> None:
    """Print the chunks, each in another colour than its neighbours, a chart of their lengths, and totals."""
    chunks, text = done.result.chunks, done.document.text
    told = 0  # up to here the text was shown
    for number, chunk in enumerate(chunks, 1):
        colour = _COLOURS[number % len(_COLOURS)]
        console.print(Rule(_label(number, chunk), align="left", style=colour, characters="─"))
        shown = Text()
        if chunk.start < told:
            # Brackets too, so that what is repeated is seen where there is no colour.
            shown.append(f"⟪{text[chunk.start : told]}⟫", _REPEATED)
        shown.append(text[max(chunk.start, told) : chunk.end], colour)
        console.print(shown, soft_wrap=not console.is_terminal)
        told = chunk.end
    if chunks:
        console.print(Rule("lengths", align="left", style="dim"))
        console.print(_chart([chunk.end - chunk.start for chunk in chunks], done.config.size))
    console.print(_totals(done))
    if done.result.note:
        console.print(Text(f"Note: {done.result.note}.", "yellow"))


def _label(number: int, chunk: Chunk) -> Text:
    parts = [f"{number}", f"{chunk.end - chunk.start} characters", f"{chunk.start}–{chunk.end}"]
    parts += [f"page {chunk.page}"] if chunk.page is not None else []
    parts += [chunk.section] if chunk.section is not None else []
    return Text(" · ".join(parts))


def _chart(lengths: list[int], size: int) -> Text:
    """A bar for each tenth of the largest length: how many chunks are that long."""
    width = -(-size // _BINS)
    counts = [sum(low * width < length <= (low + 1) * width for length in lengths) for low in range(_BINS)]
    most = max(counts)
    lines = [
        f"{low * width + 1:>5}–{min((low + 1) * width, size):<5} {'█' * -(-count * _BAR // most):<{_BAR}} {count}"
        for low, count in enumerate(counts)
    ]
    return Text("\n".join(lines))


def _totals(done: SplitFile) -> Text:
    chunks = done.result.chunks
    lengths = [chunk.end - chunk.start for chunk in chunks]
    config = done.config
    head = f"{config.method}, size {config.size}, overlap {config.overlap}: {len(chunks)} chunks"
    if not chunks:
        return Text(head)
    repeated = sum(max(before.end - after.start, 0) for before, after in itertools.pairwise(chunks))
    return Text(
        f"{head} of {len(done.document.text)} characters in {done.seconds:.2f} s\n"
        f"shortest {min(lengths)}, median {statistics.median(lengths):.0f}, longest {max(lengths)}; "
        f"{repeated} characters repeated",
        "bold",
    )


def _exit(message: str, code: int) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)
