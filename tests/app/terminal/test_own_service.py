"""Commands with `--data`: a service of their own on a folder, apart from a running one, and nothing left of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.data_folder import lock_data_folder
from tests.app.terminal.console import lorebase

pytestmark = pytest.mark.e2e


def key_hashes(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / "lorebase.db")) as connection:
        return [row[0] for row in connection.execute("SELECT sha256 FROM keys ORDER BY sha256")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a command made and filled."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "note.txt").write_text("The lighthouse of Skerryvore is 48 metres tall.")
    stored = lorebase("ingest", "note.txt", "--data", "data", "--json", cwd=folder)
    assert (stored.code, stored.json["failed"]) == (0, 0)
    return folder / "data"


def test_a_command_makes_and_fills_a_folder_as_a_first_start_does(data: Path) -> None:
    assert (data / "keys.env").stat().st_mode & 0o077 == 0
    assert len(key_hashes(data)) == 2  # the admin's and the default tenant's; the command's own was never stored


def test_a_folder_is_asked_without_a_running_service(data: Path) -> None:
    kept = key_hashes(data)
    answered = lorebase("ask", "How tall is the lighthouse of Skerryvore?", "--data", str(data), "--json")
    assert "48" in answered.json["answer"]
    assert key_hashes(data) == kept


def test_a_folder_that_cannot_be_served_is_refused_before_anything_is_loaded(data: Path, tmp_path: Path) -> None:
    with lock_data_folder(data):
        refused = lorebase("ask", "x", "--data", str(data))
    assert refused.code == 1
    assert "--url" in refused.error
    nobody = lorebase("ask", "x", "--data", str(data), "--tenant", "nobody")
    assert nobody.code == 5
    assert "it has: default" in nobody.error
    assert lorebase("ask", "x", "--data", str(tmp_path / "absent")).code == 5
    assert not (tmp_path / "absent").exists()
