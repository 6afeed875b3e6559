"""Every view, in both themes and at a phone's width: nothing keeps people out, nothing runs off the screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from app.local_server import LocalServer
from tests.app.texts import LIGHTHOUSE
from tests.browser.test_page import EXAMPLES, ask
from tests.conftest import new_tenant

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
QUESTIONS = json.dumps(
    [
        {"question": "How many days of annual leave do employees have?", "answers": ["28"]},
        {"question": "Why did revenue increase in 2025?", "answers": ["higher volumes of the Heron probe family"]},
    ]
).encode()


@pytest.fixture(scope="module")
def key(server: LocalServer) -> str:
    """The key of a tenant with documents, one of which failed, and an adapter."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.admin_key}"}) as admin:
        key = new_tenant(admin)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        files = [("files", (path.name, path.read_bytes())) for path in (EXAMPLES / "documents").glob("*.[mp]d*")]
        files += [("files", ("varn.txt", LIGHTHOUSE.encode())), ("files", ("broken.pdf", b"%PDF-1.4 broken"))]
        client.post("/ingest", params={"wait": "true"}, files=files).raise_for_status()
        parts = [
            EXAMPLES / "adapters" / "finance" / name for name in ("adapter_config.json", "adapter_model.safetensors")
        ]
        uploaded = [("files", (path.name, path.read_bytes())) for path in parts]
        client.post("/adapters/finance/versions", files=uploaded).raise_for_status()
        client.post("/adapters/finance/promote", json={"version": 1}).raise_for_status()
    return key


def answer_and_abstain(page: Any) -> None:
    ask(page, "How many days of annual leave do employees have?")
    ask(page, "What is the boiling point of tungsten?", 2)
    page.get_by_text("Options").first.click()
    page.get_by_text("How it was answered").first.click()


def cited_page(page: Any) -> None:
    ask(page, "How many days of annual leave do employees have?").get_by_role("button", name="Source 1").click()
    page.get_by_role("dialog").locator("img").wait_for()


def cited_text(page: Any) -> None:
    cited_page(page)
    page.get_by_role("button", name="Text").click()
    page.get_by_role("dialog").locator("mark").wait_for()


def chunks(page: Any) -> None:
    cited_page(page)
    page.get_by_role("button", name="Chunks").click()
    page.get_by_role("dialog").locator(".passage").first.wait_for()


def compare(page: Any) -> None:
    page.get_by_role("button", name="Compare").first.click()
    page.locator(".columns select").nth(1).wait_for()
    page.get_by_role("textbox", name="same question").fill("Why did revenue increase in 2025?")
    page.keyboard.press("Enter")
    page.locator(".answer[aria-busy=false]").nth(1).wait_for()


def search(page: Any) -> None:
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("textbox", name="What to search for").fill("annual leave")
    page.keyboard.press("Enter")
    page.locator(".passage").first.wait_for()


def upload(page: Any) -> None:
    page.get_by_role("rowheader").first.wait_for()
    page.set_input_files("input[type=file]", EXAMPLES / "documents" / "annual-report.md")
    page.locator(".upload .chip", has_text="Already there").wait_for()


def adapters(page: Any) -> None:
    page.get_by_role("heading", name="finance").wait_for()
    page.get_by_text("Upload a version").click()
    page.get_by_text("Ask the gate").first.click()
    page.get_by_text("What happened").click()


def training(page: Any) -> None:
    page.get_by_text("Train a version", exact=True).click()
    page.get_by_label("Training set", exact=True).wait_for()
    page.get_by_text("Training sets").click()


def evaluation(page: Any) -> None:
    page.set_input_files("input[type=file]", {"name": "set.json", "mimeType": "application/json", "buffer": QUESTIONS})
    page.get_by_role("button", name="Evaluate").click()
    page.locator("table").first.wait_for(timeout=60_000)


def health(page: Any) -> None:
    page.locator(".fact").first.wait_for()


def figures(page: Any) -> None:
    page.get_by_role("heading", name="Requests by route").wait_for()
    page.get_by_role("img", name="Questions waiting").wait_for()


def access(page: Any) -> None:
    page.get_by_role("button", name="Rotate").first.wait_for()
    for part in ("New key", "What was changed"):
        page.get_by_text(part, exact=True).first.click()
    page.get_by_role("columnheader", name="Request").first.wait_for()


def admin(page: Any) -> None:
    page.get_by_text("Use and keys").first.click()
    page.get_by_role("button", name="Revoke").first.wait_for()
    for part in ("Limits", "New key", "What was changed"):
        page.get_by_text(part, exact=True).first.click()
    page.get_by_role("columnheader", name="Request").first.wait_for()


def door(page: Any) -> None:
    page.get_by_label("Your key").fill("wrong-key-wrong-key")
    page.keyboard.press("Enter")
    page.locator(".note.bad").wait_for()


VIEWS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "answer": ("#/ask", answer_and_abstain),
    "cited page": ("#/ask", cited_page),
    "cited text": ("#/ask", cited_text),
    "chunks": ("#/ask", chunks),
    "compare": ("#/ask", compare),
    "search": ("#/ask", search),
    "documents": ("#/documents", upload),
    "adapters": ("#/adapters", adapters),
    "training": ("#/adapters", training),
    "evaluation": ("#/evaluation", evaluation),
    "health": ("#/health", health),
    "figures": ("#/health", figures),
    "access": ("#/access", access),
    "admin": ("#/admin", admin),
    "door": ("", door),
}


@pytest.mark.parametrize("name", VIEWS)
def test_no_view_keeps_anyone_out_or_runs_off_a_phone(
    open_page: OpenPage, server: LocalServer, key: str, name: str
) -> None:
    address, prepare = VIEWS[name]
    whose = {"admin": server.admin_key, "figures": server.admin_key, "door": None}.get(name, key)
    for theme, size in (("light", {"width": 1200, "height": 850}), ("dark", {"width": 360, "height": 740})):
        page = open_page(whose, address, color_scheme=theme, viewport=size)
        prepare(page)
        page.wait_for_timeout(200)  # colours change over a moment
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], f"{name}, {theme}: {wide[0]} pixels wide"
        for shown in (theme, "dark" if theme == "light" else "light"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", shown)
            page.wait_for_timeout(200)
            found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
            grave = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not grave, f"{name}, {shown}: " + "; ".join(
                f"{each['id']}: {[node['html'][:150] for node in each['nodes'][:3]]}" for each in grave
            )
