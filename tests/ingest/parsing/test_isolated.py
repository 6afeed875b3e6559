"""No file can hang, crash or outlive the service."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.isolated import ParserProcess
from tests.ingest.parsing.files import PARAGRAPH, pdf, tall_workbook, word


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    parser = ParserProcess(timeout_seconds=60)
    yield parser
    parser.close()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", pdf([PARAGRAPH, "Two"], bookmarks=True)),
        ("a.docx", word(lambda document: document.add_heading("Über \U0001f600", 1))),
        ("a.html", b"<h1>Head</h1><p>Text</p>"),
        ("a.md", b"# Head\n\ntext"),
        ("\ud800.txt", b"text"),
    ],
)
def test_the_child_answers_what_this_process_would(parser: ParserProcess, name: str, content: bytes) -> None:
    assert parser.parse(name, content) == parse(name, content)


def test_reasons_come_back_and_the_child_stays(parser: ParserProcess) -> None:
    parser.parse("a.txt", b"x")
    pid = parser.pid
    with pytest.raises(UnreadableDocument, match="not text but a binary file"):
        parser.parse("a.txt", b"\x00")
    with pytest.raises(UnreadableDocument, match="is empty"):
        parser.parse("a.txt", b"")
    assert parser.parse("a.txt", b"y").text == "y"
    assert parser.pid == pid


def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_read() -> None:
    parser = ParserProcess(timeout_seconds=30)
    parser.parse("a.txt", b"warm")
    pid = parser.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # a child that does not come back
    parser.timeout_seconds = 0.3
    with pytest.raises(UnreadableDocument, match=r"longer than 0\.3 seconds"):
        parser.parse("a.txt", b"x" * 1_000_000)
    assert wait_until_gone(pid)
    parser.timeout_seconds = 30
    assert parser.parse("a.txt", b"next").text == "next"
    parser.close()


def test_a_child_that_dies_costs_one_file_at_most(parser: ParserProcess) -> None:
    parser.parse("a.txt", b"warm")
    assert parser.pid is not None
    os.kill(parser.pid, signal.SIGKILL)
    with contextlib.suppress(UnreadableDocument):  # or a new child was started before this one is asked
        assert parser.parse("a.txt", b"x").text == "x"
    assert parser.parse("a.txt", b"y").text == "y"


def test_a_file_that_needs_too_much_memory_is_refused() -> None:
    parser = ParserProcess(timeout_seconds=60, memory_bytes=256 * 2**20)
    with pytest.raises(UnreadableDocument, match="memory"):
        parser.parse("a.txt", b"word " * 30_000_000)
    assert parser.parse("a.txt", b"small").text == "small"
    parser.close()


def test_threads_take_turns(parser: ParserProcess) -> None:
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda n: parser.parse("a.txt", f"text {n}".encode()).text, range(20)))
    assert texts == [f"text {n}" for n in range(20)]


def test_closing_ends_the_child(parser: ParserProcess) -> None:
    parser.parse("a.txt", b"x")
    pid = parser.pid
    assert pid is not None
    parser.close()
    parser.close()
    assert wait_until_gone(pid)
    with pytest.raises(RuntimeError, match="closed"):
        parser.parse("a.txt", b"x")


def test_the_child_ignores_an_interrupt_and_dies_with_its_parent() -> None:
    program = (
        "import os, signal, time; from ingest.parsing.isolated import ParserProcess; parser = ParserProcess(); "
        "parser.parse('a.txt', b'x'); os.kill(parser.pid, signal.SIGINT); parser.parse('a.txt', b'y'); "
        "print(parser.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(pid)


def test_html_nested_without_end_costs_no_more_than_a_refusal(parser: ParserProcess) -> None:
    deep = b"<html><body>" + b"<div>" * 20_000 + b"bottom" + b"</div>" * 20_000
    with contextlib.suppress(UnreadableDocument):
        assert "bottom" in parser.parse("deep.html", deep).text
    assert parser.parse("a.txt", b"next").text == "next"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_table_of_a_million_rows_is_refused_before_it_takes_the_memory(kind: str) -> None:
    rows = 1_000_000
    content = b"id,name\n" + b"".join(b"%d,name %d\n" % (i, i) for i in range(rows)) if kind == "csv" else b""
    parser = ParserProcess()
    try:
        with pytest.raises(UnreadableDocument, match="more than 200000 rows; split it into several files"):
            parser.parse(f"a.{kind}", content or tall_workbook(rows))
        assert parser.pid is not None, "the child is still there: it was a limit, not the kernel, that ended it"
        with open(f"/proc/{parser.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))  # KiB
        assert peak < 512 * 1024
    finally:
        parser.close()
