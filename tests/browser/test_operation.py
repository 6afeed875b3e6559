"""What the admin does on the page: limits, keys, what was changed, and the service as it works."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer
from tests.app.texts import LIGHTHOUSE
from tests.browser.conftest import playwright

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]


@pytest.fixture
def card(open_page: OpenPage, server: LocalServer, admin: httpx.Client) -> Iterator[Any]:
    """The card of a new tenant with a document, opened; the page is the admin's."""
    made = admin.post("/tenants", json={"name": "watched"}).json()
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {made['api_key']}"}) as client:
        body = {"documents": [{"title": "Lighthouse", "text": LIGHTHOUSE}]}
        client.post("/ingest", params={"wait": "true"}, json=body, timeout=60).raise_for_status()
    page = open_page(server.admin_key, "#/admin")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="watched"))
    card.get_by_text("Use and keys").click()
    yield card
    admin.delete(f"/tenants/{made['id']}").raise_for_status()


def test_limits_are_set_and_use_is_shown_beside_them(card: Any) -> None:
    card.get_by_text("Limits", exact=True).click()
    card.get_by_role("combobox", name="Documents").select_option("number")
    card.get_by_label("Limit: Documents").fill("7")
    card.get_by_role("button", name="Set limits").click()
    card.get_by_text("1 of 7").wait_for()
    assert card.get_by_role("meter", name="Documents").get_attribute("aria-valuemax") == "7"
    card.get_by_role("combobox", name="Documents").select_option("default")
    card.get_by_role("button", name="Set limits").click()
    card.get_by_text("1 of 7").wait_for(state="detached")
    card.get_by_text("What was changed").click()
    playwright.expect(card.get_by_role("rowheader", name="POST /ingest")).to_have_count(1)


def test_a_key_is_made_for_what_it_is_for_rotated_and_revoked(card: Any, server: LocalServer) -> None:
    page = card.page
    card.get_by_text("New key", exact=True).click()
    card.get_by_label("What it is for").fill("the kiosk")
    card.get_by_label("Only these collections").fill("default")
    card.get_by_label("Ends after days").fill("30")
    card.get_by_role("button", name="Make the key").click()
    keys = []
    for _ in range(2):  # the one that was made, and the one it is rotated to
        keys.append(page.get_by_role("dialog").locator(".secret").inner_text())
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        page.get_by_role("dialog").wait_for(state="detached")
        if len(keys) == 1:
            card.get_by_role("button", name="Rotate the kiosk").click()
    found = [httpx.get(f"{server.url}/key", headers={"Authorization": f"Bearer {key}"}).json() for key in keys]
    assert [(each["scopes"], each["collections"]) for each in found] == [(["ask"], ["default"])] * 2
    card.get_by_role("button", name="Revoke the kiosk").last.click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_text("The key opens nothing any more").wait_for()
    refused = httpx.get(f"{server.url}/key", headers={"Authorization": f"Bearer {keys[1]}"})
    assert refused.status_code == 401


def test_a_tenant_looks_after_its_own_keys_and_rules(
    open_page: OpenPage, server: LocalServer, admin: httpx.Client, tenant_key: str
) -> None:
    page = open_page(tenant_key, "#/access")
    keys = page.get_by_role("region", name="Keys")
    keys.get_by_text("In use here").wait_for()
    keys.get_by_text("New key", exact=True).click()
    keys.get_by_label("What it is for").fill("the kiosk")
    keys.get_by_role("button", name="Make the key").click()
    made = page.get_by_role("dialog").locator(".secret").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    rules = page.get_by_role("region", name="Rules")
    rules.get_by_label("Promote only versions that have passed the gate").check()
    rules.get_by_role("button", name="Set the rules").click()
    page.get_by_text("The rules hold from now on").wait_for()
    own = {"Authorization": f"Bearer {tenant_key}"}
    assert httpx.get(f"{server.url}/policy", headers=own).json()["require_gate"] is True
    asking = open_page(made)
    asking.get_by_role("heading", name="Ask your documents").wait_for()
    views = asking.get_by_role("navigation").get_by_role("link")
    assert views.all_inner_texts() == ["Ask", "Documents", "Health"], "nothing that this key does not open"


def test_what_the_service_refuses_is_said_in_the_language_of_the_page(
    open_page: OpenPage, server: LocalServer, tenant_key: str
) -> None:
    page = open_page(tenant_key, "#/access", locale="zh-CN")
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tenant_key}"}) as client:
        keys = f"/tenants/{client.get('/key').json()['tenant_id']}/keys"
        made = client.post(keys, json={"name": "kiosk", "scopes": ["ask"]}).json()
        page.reload()
        rotate = page.get_by_role("button", name="轮换 kiosk")
        rotate.wait_for()
        client.delete(f"{keys}/{made['id']}").raise_for_status()
    rotate.click()
    told = page.locator(".note.bad")
    told.get_by_text("不存在，或已被删除。").wait_for()
    told.locator("[lang=en]").wait_for()  # what the service itself said


def test_the_admin_watches_answers_as_they_come(open_page: OpenPage, server: LocalServer) -> None:
    page = open_page(server.admin_key, "#/health")
    page.get_by_role("img", name="Questions waiting and being answered").wait_for()
    body = {"question": "Who built it?", "passages": [{"title": "L", "text": LIGHTHOUSE}]}
    key = {"Authorization": f"Bearer {server.default_key}"}
    httpx.post(f"{server.url}/ask", json=body, headers=key, timeout=60).raise_for_status()
    page.get_by_role("img", name="Answers of the last 30 s").wait_for()
    playwright.expect(page.get_by_role("img", name="Questions in a batch").locator("path.line")).to_have_attribute(
        "d", re.compile("^M")
    )
