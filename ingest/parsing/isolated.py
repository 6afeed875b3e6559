"""Parsing in a child process, so that no file can hang, exhaust or crash the service.

Knows how the child is started, timed and replaced; what it does inside is ``ingest.parsing.child``. The child is a
fresh interpreter (no fork of a process with threads, no re-import of the parent's main module) and stays warm
between files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.child import PARSED
from ingest.parsing.document import DEFAULT_LIMITS, ParsedDocument, ParseLimits
from ingest.parsing.pdf_page import PageImage
from ingest.parsing.wire import document_from_bytes, page_from_bytes, read_frame, write_frame

_BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ingest.parsing.child import main; main()"
_CLOSE_SECONDS = 2.0


class ParserProcess:
    """Parses one file at a time in a child process; safe to use from several threads, which then take turns.

    Args:
        timeout_seconds: how long one file may take.
        memory_bytes: how much address space the child may use.
        limits: what a file may ask for, see ``ParseLimits``.
    """

    def __init__(
        self,
        timeout_seconds: float = 120.0,
        memory_bytes: int = 2 * 1024**3,
        limits: ParseLimits = DEFAULT_LIMITS,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def parse(self, name: str, content: bytes) -> ParsedDocument:
        """The text and structure of a file, see ``ingest.parsing.parse``.

        Raises:
            UnreadableDocument: the file cannot be read, took too long or broke the child; the next call starts a new
                child.
            RuntimeError: the parser is closed.
        """
        return document_from_bytes(self._ask({"name": name}, content))

    def page(self, content: bytes, number: int, width: int, quote: str = "") -> PageImage:
        """A page of a PDF as an image, see ``ingest.parsing.pdf_page.page_image``.

        Raises:
            UnreadableDocument, RuntimeError: as for ``parse``; also when there is no such page.
        """
        return page_from_bytes(self._ask({"page": number, "width": width, "quote": quote}, content))

    def _ask(self, task: dict[str, Any], content: bytes) -> bytes:
        with self._lock:
            if self._closed:
                raise RuntimeError("the parser is closed")
            expired = threading.Event()
            child = self._running()
            timer = threading.Timer(self.timeout_seconds, _expire, (child, expired))
            timer.daemon = True
            timer.start()
            try:
                kind, payload = _exchange(child, task, content)
            except (OSError, EOFError, ValueError) as error:
                self._stop()
                if expired.is_set():
                    reason = f"reading the file took longer than {self.timeout_seconds:g} seconds"
                else:
                    reason = "the file broke the reader: it is damaged, or needs more memory than is allowed"
                raise UnreadableDocument(reason) from error
            except BaseException:
                self._stop()  # an answer nobody waits for must not meet the next question
                raise
            finally:
                timer.cancel()
        if kind == PARSED:
            return payload
        raise UnreadableDocument(payload.decode("utf-8", "replace"))

    def close(self) -> None:
        """End the child; waits for a file under way. Calling it twice is fine."""
        with self._lock:
            self._closed = True
            self._stop()

    @property
    def pid(self) -> int | None:
        """The child's process id, ``None`` while there is none."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._stop()
        child = subprocess.Popen(  # noqa: S603 - our own interpreter on a constant program
            [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is for the service, which then closes its parsers
        )
        self._child = child
        settings = {
            "memory_bytes": self._memory_bytes,
            "timeout_seconds": self.timeout_seconds,
            "parent": os.getpid(),
            "limits": dataclasses.asdict(self._limits),
        }
        assert child.stdin is not None  # noqa: S101 - opened as a pipe above
        with contextlib.suppress(OSError):  # a child that failed to start shows at the first exchange
            write_frame(child.stdin, json.dumps(settings).encode())
        return child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            child.wait(0 if child.poll() is not None else _CLOSE_SECONDS if self._closed else 0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _exchange(child: subprocess.Popen[bytes], task: dict[str, Any], content: bytes) -> tuple[bytes, bytes]:
    assert child.stdin is not None  # noqa: S101 - opened as pipes
    assert child.stdout is not None  # noqa: S101
    write_frame(child.stdin, json.dumps(task).encode())
    write_frame(child.stdin, content)
    return read_frame(child.stdout), read_frame(child.stdout)


def _expire(child: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    child.kill()
