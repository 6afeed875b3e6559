"""A server that counts its durable steps: it dies at the one it is to die at, right before it or right behind it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from app.local_server import free_port
from reliability.durable_steps import Kill, Step, read_steps, start

pytestmark = pytest.mark.e2e
ADMIN_KEY = Step("commit app.keys.KeyStore.add", 1)


@pytest.mark.parametrize(("when", "keys"), [("before", 0), ("behind", 1)])
def test_a_server_dies_at_the_step_it_is_to_die_at(
    when: Literal["before", "behind"], keys: int, tmp_path: Path
) -> None:
    settings = {"LOREBASE_DATA": str(tmp_path / "data"), "LOREBASE_PORT": str(free_port())}
    process = start(settings, tmp_path / "log", tmp_path / "steps", Kill(ADMIN_KEY, when))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert read_steps(tmp_path / "steps")[-1] == ADMIN_KEY
    with closing(sqlite3.connect(tmp_path / "data" / "lorebase.db")) as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone()[0] == keys
