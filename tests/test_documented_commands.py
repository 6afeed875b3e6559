"""Every command and snippet of the documentation is run as it stands, page by page, against a real server.

A fence of shell or Python that is not run says so, with the reason, in a comment above it: `<!-- not run: … -->`. What
is changed before a block runs is only the address: the tests' server has another port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.local_server import LocalServer
from tests.app.terminal.console import environment

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LONG = {"docs/training.md"}
ELSEWHERE = {"docs/tutorial.md"}  # run by a test that looks at what came of it
BEGINNINGS = {"README.md", "docs/index.md"}  # they say where the keys are; other pages go on from there
_FENCE = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<kind>\S+)\n(?P<code>.*?)^```$", re.S | re.M)
_SHELL = {"sh", "bash", "shell", "console"}
_FAILING = 'set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body "$@"; }\n'


@dataclass(frozen=True)
class Block:
    """A fence of a page; ``reason``: why it is not run."""

    kind: str
    code: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    found = [Block(f["kind"], f["code"], f["reason"]) for f in _FENCE.finditer(page.read_text())]
    return [block for block in found if block.kind in {*_SHELL, "python"}]


def script(page: Path) -> str:
    """All blocks of a page that are run, as one shell script."""
    parts = []
    for number, block in enumerate(blocks(page)):
        if block.reason is None:
            end = f"END_OF_BLOCK_{number}"
            parts.append(block.code if block.kind in _SHELL else f"python3 - <<'{end}'\n{block.code}{end}\n")
    return "".join(parts)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN = [
    pytest.param(page, id=name(page), marks=[pytest.mark.long, pytest.mark.timeout(900)] if name(page) in LONG else [])
    for page in PAGES
    if script(page) and name(page) not in ELSEWHERE
]


def test_blocks_are_found_and_those_that_are_not_run_say_why() -> None:
    found = {name(page): blocks(page) for page in PAGES}
    assert sum(block.reason is None for each in found.values() for block in each) > 15
    assert "it needs Docker" in [block.reason for block in found["docs/operations.md"]]
    reasons = [block.reason for each in found.values() for block in each if block.reason is not None]
    assert all(len(reason.split()) > 2 for reason in reasons)
    fences = sum(page.read_text().count("\n```sh") + page.read_text().count("\n```python") for page in PAGES)
    assert fences == sum(map(len, found.values()))  # none escapes the pattern


@pytest.mark.e2e
@pytest.mark.parametrize("page", RUN)
def test_every_command_of_a_page_works(page: Path, server: LocalServer, tenant: httpx.Client, tmp_path: Path) -> None:
    key = tenant.headers["Authorization"].removeprefix("Bearer ")
    port = server.url.rpartition(":")[2]
    keys = {"LOREBASE_ADMIN_KEY": server.admin_key, "LOREBASE_DEFAULT_KEY": key}
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "data").mkdir()
    kept = tmp_path / "data" / "keys.env"
    kept.touch(0o600)
    kept.write_text("".join(f"{name}={value}\n" for name, value in keys.items()))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before = _FAILING if name(page) in BEGINNINGS else f"{_FAILING}set -a; . data/keys.env; set +a\n"
    variables = environment(LOREBASE_PORT=port, PATH=path, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        ["bash", "-c", before + script(page).replace("127.0.0.1:8000", f"127.0.0.1:{port}")],
        cwd=tmp_path, env=variables, capture_output=True, text=True,
        timeout=800 if name(page) in LONG else 110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
