"""What the project is built on: pinned, installed as pinned, and past the weaknesses that concern it; no network."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {
    canonicalize_name(name): Version(pinned)
    for name, pinned in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
FIXED_IN = {
    "torch": ("2.6.0", "CVE-2025-32434: code from a pickle despite weights_only"),
    "transformers": ("5.3.0", "CVE-2026-4372: code from a model's config"),
    "python-multipart": ("0.0.18", "CVE-2024-53981: time spent on a malformed boundary"),
    "starlette": ("0.49.1", "CVE-2025-62727: time spent on a Range header"),
    "h11": ("0.16.0", "CVE-2025-43859: request smuggling by chunked bodies"),
    "jinja2": ("3.1.6", "CVE-2025-27516: leaving the sandbox"),
    "requests": ("2.32.4", "CVE-2024-47081: credentials sent to another host"),
    "urllib3": ("2.6.0", "CVE-2025-66418: unbounded decompression"),
    "pillow": ("11.3.0", "CVE-2025-48379: writing past a buffer"),
}


def test_every_dependency_that_is_named_is_pinned_within_what_is_asked_for() -> None:
    named = [*PROJECT["dependencies"], *(each for group in PROJECT["optional-dependencies"].values() for each in group)]
    for requirement in map(Requirement, named):
        if requirement.name == PROJECT["name"]:
            continue
        pinned = PINNED.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement.name} is not in constraints.txt"
        assert pinned in requirement.specifier, f"{requirement} is pinned at {pinned}"


@pytest.mark.parametrize("name", PINNED)
def test_what_is_installed_is_what_is_pinned(name: str) -> None:
    try:
        installed = Version(version(name))
    except PackageNotFoundError:
        pytest.skip("of an extra that is not installed")
    assert installed.public == PINNED[canonicalize_name(name)].public


@pytest.mark.parametrize("name", FIXED_IN)
def test_known_weaknesses_are_fixed_in_what_is_pinned(name: str) -> None:
    fixed, weakness = FIXED_IN[name]
    assert PINNED[canonicalize_name(name)] >= Version(fixed), weakness
