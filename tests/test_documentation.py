"""The documentation as a site: built without a warning, with a page for every file and every route."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import yaml

from app.main import openapi_document

ROOT = Path(__file__).parent.parent


def pages(entries: object) -> set[str]:
    match entries:
        case str():
            return {entries}
        case list():
            return set().union(*map(pages, entries))
        case dict():
            return set().union(*map(pages, entries.values()))
    raise AssertionError(entries)


def test_every_page_can_be_reached_from_the_navigation() -> None:
    navigation = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    files = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    decisions = {name for name in files if name.startswith("decisions/")}  # listed by the hook
    assert navigation == files - decisions | {"api.md", "security.md"}


def test_the_site_is_built_without_a_warning_and_needs_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text()
    assert 'src="http' not in start
    assert "decisions/001-no-token-types.html" in start
    assert "stylesheet" in start


def test_the_reference_has_every_route() -> None:
    place = importlib.util.spec_from_file_location("api_reference", ROOT / "docs" / "api_reference.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    document = openapi_document()
    page = module.api_page(document)
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"### `{method.upper()} {path}`" in page
    assert "`min_confidence` (JSON)" in page
