"""The house: arrows between packages go one way, public names are the listed ones, and everything is shipped."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import adapters
from app.settings import CommandSettings, settings_table

ROOT = Path(__file__).parent.parent


def test_imports_follow_the_arrows() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == 0


def test_every_listed_name_of_a_package_is_there() -> None:
    for package in ("adapters", "ingest"):
        module = importlib.import_module(package)
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError):
        _ = adapters.nothing


def test_every_package_is_installed_by_a_wheel() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("app", "ingest", "adapters")
        for path in (ROOT / top).rglob("*.py")
    }
    assert set(configured) == found


def test_the_readme_has_every_setting_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text()
    assert settings_table() in readme
    assert settings_table(CommandSettings) in readme


def test_the_command_line_lists_its_commands() -> None:
    command = [sys.executable, "-m", "app.cli", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(command in shown for command in ("serve", "evaluate", "demo", "train", "reindex", "settings"))
