"""`lorebase split`: the cuts of a file in the terminal, through a pipe, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli import cli
from app.terminal.splitting import show, split_file
from ingest import SplitConfig

TEXT = (
    "# Harbour\n\n"
    + "The boats come in at dawn and leave at dusk. " * 30
    + "\n\n## Prices\n\nA berth costs nine euros.\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.md"
    path.write_text(TEXT)
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["split", *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("method", ["character", "recursive", "document"])
def test_json_gives_offsets_into_the_parsed_text(file: Path, method: str) -> None:
    code, out, _ = run(str(file), "--method", method, "--size", "300", "--overlap", "60", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["method"], told["size"], told["overlap"], told["characters"]) == (method, 300, 60, len(TEXT))
    assert len(told["chunks"]) > 3
    assert all(TEXT[c["start"] : c["end"]].strip() and c["end"] - c["start"] <= 300 for c in told["chunks"])


def test_through_a_pipe_there_is_text_and_no_colour(file: Path) -> None:
    code, out, _ = run(str(file), "--method", "character", "--size", "300", "--overlap", "60")
    assert code == 0
    assert "\x1b" not in out
    assert "⟪" in out  # what is repeated from the chunk before
    assert "█" in out
    assert "character, size 300, overlap 60" in out


def test_in_a_terminal_neighbouring_chunks_differ_in_colour_and_repeated_text_is_marked(file: Path) -> None:
    console = Console(force_terminal=True, width=80, color_system="standard", record=True)
    with console.capture() as shown:
        show(split_file(file, SplitConfig(300, 60, method="character")), console)
    colours = [code for code in ("\x1b[36m", "\x1b[33m", "\x1b[4;35m") if code in shown.get()]
    assert len(colours) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "magic"], "recursive"),
        (["--size", "0"], "100"),
        (["--size", "99999"], "8000"),
        (["--size", "200", "--overlap", "150"], "at most half of --size: 100"),
        (["--method", "agentic"], "LOREBASE_MODEL"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_is_possible(
    file: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOREBASE_MODEL", raising=False)
    code, _, error = run(str(file), *arguments)
    assert code == 2
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize(("name", "content"), [("absent.txt", None), ("binary.txt", bytes(range(256)) * 9)])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, error = run(str(tmp_path / name))
    assert (code, out) == (2, "")
    assert name in error
