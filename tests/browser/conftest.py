"""A real Chromium, and pages of it that are signed in to a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer
from tests.conftest import new_tenant

try:
    import playwright.sync_api as playwright
except ModuleNotFoundError:  # make test-browser installs it; every other tier does without
    collect_ignore_glob = ["test_*.py"]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",  # of root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or the one that the variable CHROMIUM names."""
    if CHROMIUM is None:
        pytest.fail("There is no Chromium: install Debian's package chromium, or set CHROMIUM to a browser's path.")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any, server: LocalServer) -> Iterator[Callable[..., Any]]:
    """Opens a page of its own context; whatever it logs as an error, or asks of another host, fails the test."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_one(key: str | None = None, view: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 850}, "locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on("request", lambda request: _check_host(request.url, server.url, troubles))
        page.on("console", lambda message: _check_message(message, troubles))
        if key is not None:
            page.add_init_script(f"sessionStorage.setItem('lorebase.key', '{key}')")
        page.goto(f"{server.url}/{view}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not troubles


def _check_host(asked: str, own: str, troubles: list[str]) -> None:
    if not asked.startswith((own, "blob:" + own, "data:")):
        troubles.append(f"request to {asked}")


def _check_message(message: Any, troubles: list[str]) -> None:
    if message.type == "error" and "Failed to load resource" not in message.text:  # an answer of 4xx is no fault
        troubles.append(f"console: {message.text}")


@pytest.fixture
def tenant_key(admin: httpx.Client) -> str:
    """The key of a tenant made for this test."""
    return new_tenant(admin)
