"""The tutorial's commands, taken from its page and run in their order against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.local_server import local_server
from tests.test_documented_commands import script

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial.md"


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_tutorials_commands_lead_to_a_promoted_adapter_that_answers_better(tmp_path: Path) -> None:
    commands = script(PAGE)
    assert commands.count("gate ") >= 2
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with local_server() as server:
        run = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "LOREBASE_URL": server.url,
                "LOREBASE_DEFAULT_KEY": server.default_key,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"{run.stdout}\n{run.stderr}"
        assert run.returncode == 0, said
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.default_key}"}) as client:
            house = client.get("/adapters/house").json()
            assert house["active"] == 2, said
            assert house["versions"][1]["gate"]["passed"], said
            asked = {"question": "Why should the tablet not be crushed?"}
            answer = client.post("/ask", json=asked, timeout=60).json()
    assert answer["adapter"]["version"] == 2
    assert "the coating protects the active substance" in answer["answer"]
    assert "F1 points better than the base" in run.stdout
    assert run.stdout.index("promoted: False") < run.stdout.index("promoted: True")
