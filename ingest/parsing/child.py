"""The child side of an isolated parser: reads files from standard input, writes parsed documents, or pages of them as
images, to standard output.

Run as ``python -c "from ingest.parsing.child import main; main()"`` by ``ingest.parsing.isolated``. Limits its own
memory, and ends when its parent does: on a closed pipe, on a vanished parent, and at the latest by its alarm.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import IO, Any

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from ingest.parsing.pdf_page import page_image
from ingest.parsing.wire import document_to_bytes, page_to_bytes, read_frame, write_frame

PARSED = b"P"
REFUSED = b"R"

_GRACE_SECONDS = 5.0
_PARENT_CHECK_SECONDS = 1.0


def main() -> None:
    """Serve until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills, also where a library does not come back
    # Libraries print to descriptor 1; the answers go to a copy of it that they do not know.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    try:
        settings = json.loads(read_frame(requests))
        _limit_memory(int(settings["memory_bytes"]))
        _follow_parent(int(settings["parent"]))
        limits = ParseLimits(**settings["limits"])
        while True:
            task = json.loads(read_frame(requests))
            content = read_frame(requests)
            signal.setitimer(signal.ITIMER_REAL, float(settings["timeout_seconds"]) + _GRACE_SECONDS)
            kind, payload = _answer(task, content, limits)
            signal.setitimer(signal.ITIMER_REAL, 0)
            del content
            _send(answers, kind, payload)
            del payload
    except (EOFError, BrokenPipeError):
        os._exit(0)


def _answer(task: dict[str, Any], content: bytes, limits: ParseLimits) -> tuple[bytes, bytes]:
    try:
        if "page" in task:
            return PARSED, page_to_bytes(page_image(content, task["page"], task["width"], task["quote"]))
        return PARSED, document_to_bytes(parse(task["name"], content, limits))
    except UnreadableDocument as error:
        return REFUSED, str(error).encode("utf-8", "replace")
    except MemoryError:
        return REFUSED, b"the file needs more memory to read than is allowed"
    except RecursionError:
        return REFUSED, b"the file is nested too deeply to be read"
    except Exception as error:
        # A parsing library met something it did not foresee: that is this file's problem, not the service's.
        return REFUSED, f"the file is damaged or of an unknown variant ({type(error).__name__})".encode()


def _send(stream: IO[bytes], kind: bytes, payload: bytes) -> None:
    write_frame(stream, kind)
    write_frame(stream, payload)


def _limit_memory(memory_bytes: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower hard limit is already in force
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _follow_parent(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
