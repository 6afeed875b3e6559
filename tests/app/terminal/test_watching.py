"""`lorebase ingest --watch`: a folder and a tenant's documents, in step through changes, an end and a new start."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.local_server import LocalServer
from tests.app.terminal.console import SCRIPT, Ran, environment, lorebase

pytestmark = pytest.mark.e2e


def contents(tenant: httpx.Client) -> dict[str, str]:
    """The text of every ready document, by the path it carries."""
    found = tenant.get("/documents").json()["documents"]
    return {
        d["metadata"]["source_path"]: tenant.get(f"/documents/{d['id']}/text").text.strip()
        for d in found
        if d["status"] == "ready"
    }


def wait_for(tenant: httpx.Client, expected: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while contents(tenant) != expected:
        assert time.monotonic() < deadline, contents(tenant)
        time.sleep(0.2)


@contextmanager
def watching(folder: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [str(SCRIPT), "ingest", "--watch", str(folder), "--json"]
    process = subprocess.Popen(command, env=environment(**variables), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_folder_is_kept_in_step_also_after_the_command_was_killed(
    server: LocalServer, tenant: httpx.Client, tmp_path: Path
) -> None:
    key = tenant.headers["Authorization"].removeprefix("Bearer ")
    variables = {"LOREBASE_URL": server.url, "LOREBASE_KEY": key}

    def once() -> Ran:
        return lorebase("ingest", "--watch", str(tmp_path), "--once", "--json", **variables)

    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("The lighthouse is red.")
    (tmp_path / "sub" / "b.txt").write_text("The harbour is deep.")
    (tmp_path / ".hidden.txt").write_text("A secret of the editor.")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 this is none")
    with watching(tmp_path, variables) as process:
        wait_for(tenant, {"a.txt": "The lighthouse is red.", "sub/b.txt": "The harbour is deep."})
        ids = {d["metadata"]["source_path"]: d["id"] for d in tenant.get("/documents").json()["documents"]}
        (tmp_path / "a.txt").write_text("The lighthouse is white.")
        (tmp_path / "sub" / "b.txt").unlink()
        (tmp_path / "c.txt").write_text("The pier is long.")
        wait_for(tenant, {"a.txt": "The lighthouse is white.", "c.txt": "The pier is long."})
        assert tenant.get(f"/documents/{ids['a.txt']}").status_code == 200  # replaced, not made anew
        process.kill()  # nothing of it is remembered here

    assert once().out == ""  # nothing has changed meanwhile, so nothing is sent, the broken file included
    (tmp_path / "c.txt").rename(tmp_path / "d.txt")
    (tmp_path / "copy of d.txt").write_text("The pier is long.")
    done = once()
    assert done.code == 0
    assert [line for line in done.out.splitlines() if '"deleted"' in line]
    found = contents(tenant)
    assert sorted(found.values()) == ["The lighthouse is white.", "The pier is long."]
    assert "c.txt" not in found
