"""The page in a real browser: what a person does with it, from signing in to reading the cited sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer
from tests.app.test_training_over_http import send_towns, town_lines
from tests.app.texts import LIGHTHOUSE
from tests.browser.conftest import playwright
from tests.ingest.parsing.files import pdf

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
HOSTILE = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'><a href='https://example.org/'>link</a> "
    "![](https://example.org/p.png) The harbour of Varn has seven <b>cranes</b>."
)


def answered(page: Any, count: int = 1) -> Any:
    """The last of ``count`` answers, when it is complete."""
    answer = page.locator(".answer[aria-busy=false]").nth(count - 1)
    answer.wait_for()
    return answer


def ask(page: Any, question: str, count: int = 1) -> Any:
    page.get_by_role("textbox", name="question").fill(question)
    page.keyboard.press("Enter")
    return answered(page, count)


@pytest.fixture
def client(server: LocalServer, tenant_key: str) -> Any:
    """Speaks with the key of the page's tenant."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tenant_key}"}, timeout=60) as client:
        yield client


def ingest(client: httpx.Client, text: str, title: str = "A text") -> str:
    body = {"documents": [{"title": title, "text": text}]}
    return str(
        client.post("/ingest", params={"wait": "true"}, json=body).raise_for_status().json()["documents"][0]["id"]
    )


def test_a_wrong_key_is_told_and_a_right_one_is_kept_for_the_tab_only(open_page: OpenPage, tenant_key: str) -> None:
    page = open_page()
    key = page.get_by_label("Your key")
    for wrong in ("not-a-key-of-this-service", "密钥密钥密钥密钥"):
        key.fill(wrong)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("This key is unknown or was revoked").wait_for()
    key.fill(f"  {tenant_key} ")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Ask your documents").wait_for()
    assert page.evaluate("Object.values(localStorage).join()") == ""
    page.reload()
    page.get_by_role("heading", name="Ask your documents").wait_for()
    page.get_by_role("button", name="Sign out").first.click()
    page.get_by_label("Your key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_revoked_key_ends_at_the_door_with_the_reason(
    open_page: OpenPage, server: LocalServer, admin: httpx.Client
) -> None:
    tenant = admin.post("/tenants", json={"name": "short-lived page"}).json()
    page = open_page(tenant["api_key"])
    page.get_by_role("heading", name="Ask your documents").wait_for()
    assert admin.delete(f"/tenants/{tenant['id']}").status_code == 204
    page.evaluate("location.hash = '#/documents'")  # it may know already, and have no link any more
    page.get_by_text("Your key is no longer valid").wait_for()


def test_a_pdf_is_uploaded_asked_about_and_opened_at_the_cited_sentence(open_page: OpenPage, tenant_key: str) -> None:
    page = open_page(tenant_key, "#/documents")
    page.set_input_files("input[type=file]", EXAMPLES / "documents" / "staff-handbook.pdf")
    page.locator(".upload .chip", has_text="Ready").wait_for()
    page.get_by_role("rowheader", name="Larkfield Group: Staff Handbook").wait_for()
    page.get_by_role("link", name="Ask", exact=True).click()
    answer = ask(page, "How many days of annual leave do employees have?")
    assert answer.locator(".words").inner_text() == "28"
    assert "%" in answer.get_by_role("meter", name="Confidence").get_attribute("aria-valuetext")
    source = answer.get_by_role("button", name="Source 1")
    assert source.locator("mark").inner_text() == "28"
    assert "page 2" in source.inner_text()
    source.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_alt_text("Page 2 of the original, the cited sentence marked").wait_for()
    dialog.get_by_role("button", name="Text").click()
    marked = dialog.locator("mark")
    assert marked.inner_text() == "Full-time employees have 28 days of paid annual leave each calendar year."
    playwright.expect(marked).to_be_in_viewport()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    playwright.expect(source).to_be_focused()


def test_follow_up_questions_carry_the_conversation_and_what_documents_do_not_say_is_told(
    open_page: OpenPage, client: httpx.Client, tenant_key: str
) -> None:
    ingest(client, LIGHTHOUSE)
    page = open_page(tenant_key)
    ask(page, "Who built the lighthouse at Skerry Point?")
    sent: list[dict[str, Any]] = []
    page.on("request", lambda request: request.url.endswith("/ask") and sent.append(request.post_data_json))
    answer = ask(page, "What is the boiling point of tungsten?", 2)
    answer.get_by_text("The documents do not answer this").wait_for()
    assert answer.locator(".passage").first.is_visible()
    assert [turn["question"] for turn in sent[0]["history"]] == ["Who built the lighthouse at Skerry Point?"]
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".answer").count() == 0


def test_text_of_a_document_stays_text_and_nothing_is_loaded_for_it(
    open_page: OpenPage, client: httpx.Client, tenant_key: str
) -> None:
    ingest(client, HOSTILE, title="<img src=x onerror='window.hit = 3'>")
    page = open_page(tenant_key)
    page.get_by_text("Options").first.click()
    page.get_by_label("Least confidence").fill("0")
    answer = ask(page, "How many cranes has the harbour of Varn?")
    answer.get_by_text("Passages read").click()
    assert HOSTILE in answer.locator(".passage .text").first.inner_text()
    answer.get_by_role("button", name="Source 1").click()
    assert HOSTILE in page.get_by_role("dialog").locator(".pre").inner_text()
    page.get_by_role("button", name="Chunks").click()
    page.get_by_role("dialog").locator(".passage").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Documents", exact=True).click()
    page.get_by_role("rowheader", name="<img src=x").wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main a[href^=http], script:not([src])").count() == 0


def test_offsets_are_code_points_also_behind_characters_of_two_units(
    open_page: OpenPage, client: httpx.Client, tenant_key: str
) -> None:
    ingest(client, "\U0001f600\U0001f601 smile. " + LIGHTHOUSE)
    page = open_page(tenant_key)
    answer = ask(page, "Who built the lighthouse at Skerry Point?")
    source = answer.get_by_role("button", name="Source 1")
    quote = source.locator("q").inner_text().strip("“”")
    source.click()
    assert page.get_by_role("dialog").locator("mark").inner_text() == quote


def test_a_file_that_fails_says_why_is_tried_again_and_deleted(open_page: OpenPage, tenant_key: str) -> None:
    page = open_page(tenant_key, "#/documents")
    locked = {"name": "locked.pdf", "mimeType": "application/pdf", "buffer": pdf(["secret"], password="x")}
    fine = {"name": "fine.txt", "mimeType": "text/plain", "buffer": LIGHTHOUSE.encode()}
    page.set_input_files("input[type=file]", [locked, fine])
    page.locator(".upload", has_text="locked.pdf").get_by_text("password-protected").wait_for()
    page.locator(".upload", has_text="fine.txt").locator(".chip", has_text="Ready").wait_for()
    row = page.get_by_role("row", name="locked.pdf")
    row.get_by_role("button", name="Try again").click()
    page.get_by_text("It is being tried again").wait_for()
    page.get_by_label("Title contains").fill("LOCK")
    playwright.expect(page.get_by_role("rowheader")).to_have_count(1)
    page.get_by_role("button", name="Delete locked.pdf").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="No document fits").wait_for()
    page.get_by_label("Title contains").fill("")
    page.get_by_role("rowheader", name="fine.txt").wait_for()


def test_dropped_files_are_taken(open_page: OpenPage, tenant_key: str) -> None:
    page = open_page(tenant_key, "#/documents")
    transfer = page.evaluate_handle(
        "text => { const t = new DataTransfer(); t.items.add(new File([text], 'dropped.txt')); return t; }", LIGHTHOUSE
    )
    for event in ("dragover", "drop"):
        page.locator(".drop").dispatch_event(event, {"dataTransfer": transfer})
    page.locator(".upload", has_text="dropped.txt").locator(".chip", has_text="Ready").wait_for()


def test_one_question_is_compared_under_base_and_two_adapters(
    open_page: OpenPage, client: httpx.Client, tenant_key: str
) -> None:
    ingest(client, (EXAMPLES / "documents" / "annual-report.md").read_text(encoding="utf-8"), "Annual report")
    page = open_page(tenant_key, "#/adapters")
    form = page.locator("details", has_text="Upload a version")
    form.get_by_text("Upload a version").click()
    for name in ("finance", "biomed"):
        folder = EXAMPLES / "adapters" / name
        form.get_by_label("Name").fill(name)
        form.get_by_label("Both files").set_input_files(
            [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
        )
        form.get_by_role("button", name="Upload", exact=True).click()
        card = page.get_by_role("region", name=name, exact=True)
        card.get_by_role("button", name="Promote").click()
        card.get_by_text("Active", exact=True).wait_for()
    page.get_by_role("region", name="finance", exact=True).get_by_role("button", name="Make default").click()
    page.get_by_text("finance answers by default").wait_for()
    page.get_by_role("link", name="Ask", exact=True).click()
    page.get_by_role("button", name="Compare").first.click()
    page.locator(".columns select").nth(2).wait_for()
    page.get_by_role("textbox", name="same question").fill("Why did revenue increase in 2025?")
    page.keyboard.press("Enter")
    answered(page, 3)
    used = [page.locator(".columns .chip.accent").nth(column).inner_text() for column in range(3)]
    assert used == ["Base model", "biomed@1", "finance@1"]
    page.get_by_text("The answers differ").or_(page.get_by_text("All give the same answer")).wait_for()
    states = {each["name"]: each["active"] for each in client.get("/adapters").json()["adapters"]}
    assert states == {"finance": 1, "biomed": 1}


def test_an_adapter_is_trained_in_the_page_with_its_loss_and_promoted(
    open_page: OpenPage, client: httpx.Client, tenant_key: str
) -> None:
    send_towns(client)
    page = open_page(tenant_key, "#/adapters")
    page.get_by_text("Train a version", exact=True).click()
    form = page.get_by_role("region", name="Training", exact=True)
    form.get_by_label("Name").fill("towns")
    file = {"name": "towns.jsonl", "mimeType": "application/jsonl", "buffer": town_lines()}
    form.get_by_label("Or upload a set").set_input_files(file)
    page.get_by_text("The set is stored").wait_for()
    form.get_by_label("Passes over the data").fill("3")
    form.get_by_role("button", name="Start training").click()
    form.locator(".chip.good", has_text="Done").wait_for(timeout=90_000)
    assert "Loss of the training" in form.locator("svg.chart").get_attribute("aria-label")
    card = page.get_by_role("region", name="towns", exact=True)
    card.get_by_text("How towns@1 came about").click()
    card.locator("svg.chart").wait_for()
    card.get_by_role("button", name="Keep in memory").click()
    playwright.expect(card.get_by_role("button", name="Keep in memory")).to_have_attribute("aria-pressed", "true")
    card.get_by_role("button", name="Promote").click()
    card.get_by_text("Active", exact=True).wait_for()
    assert client.get("/adapters/towns").json()["active"] == 1


def test_thumbs_and_corrections_are_kept(open_page: OpenPage, client: httpx.Client, tenant_key: str) -> None:
    ingest(client, LIGHTHOUSE)
    page = open_page(tenant_key)
    answer = ask(page, "Who built the lighthouse at Skerry Point?")
    answer.get_by_role("button", name="Wrong").click()
    answer.get_by_label("What would have been right?").fill("Somebody else")
    answer.get_by_role("button", name="Send correction").click()
    page.get_by_text("The correction is kept").wait_for()
    kept = client.get("/feedback").json()["feedback"]
    assert [(each["rating"], each["correction"]) for each in kept] == [(-1, "Somebody else")]


def test_the_admin_makes_a_tenant_whose_key_is_shown_once_and_opens_the_page(
    open_page: OpenPage, server: LocalServer
) -> None:
    page = open_page(server.admin_key)
    page.get_by_label("Name of a new tenant").fill("made in the page")
    page.get_by_role("button", name="Create").click()
    key = page.get_by_role("dialog").locator(".secret").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.locator("dialog").wait_for(state="detached")
    assert key not in page.content()
    page.get_by_role("button", name="Sign out").first.click()
    page.get_by_label("Your key").fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="There are no documents yet").wait_for()


def test_the_page_works_by_keyboard_alone(open_page: OpenPage, client: httpx.Client, tenant_key: str) -> None:
    ingest(client, LIGHTHOUSE)
    page = open_page(tenant_key)
    page.get_by_role("heading", name="Ask your documents").wait_for()
    page.keyboard.press("Tab")
    playwright.expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("Who built the lighthouse at Skerry Point?")
    page.keyboard.press("Enter")
    source = answered(page).get_by_role("button", name="Source 1")
    for _ in range(30):
        if source.evaluate("element => element === document.activeElement"):
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").locator("mark").wait_for()


def test_language_and_theme_are_chosen_and_remembered(open_page: OpenPage, tenant_key: str) -> None:
    page = open_page(tenant_key)
    page.get_by_role("button", name="中文").first.click()
    page.get_by_role("heading", name="向你的文档提问").wait_for()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="深色").first.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    page.get_by_role("heading", name="向你的文档提问").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme + document.documentElement.lang") == "darkzh-Hans"


def test_a_page_whose_files_do_not_come_says_so_in_the_place_of_nothing(browser: Any, server: LocalServer) -> None:
    page = browser.new_context().new_page()
    page.route("**/web/views/health.js", lambda route: route.abort())
    page.goto(server.url)
    told = page.get_by_text("The page is not loading.")
    told.wait_for(state="attached")
    assert not told.is_visible()
    told.wait_for(state="visible", timeout=20_000)
    page.unroute("**/web/views/health.js")
    page.reload()
    page.get_by_label("Key").wait_for()
    assert told.count() == 0
    page.context.close()


def test_the_api_description_needs_no_other_host(open_page: OpenPage) -> None:
    page = open_page(view="docs")
    page.locator(".opblock", has_text="/ingest").first.wait_for()
    page.locator("#operations-questions-ask_ask_post").click()
    page.get_by_text("The tenant's default").or_(page.get_by_text("server-sent events")).first.wait_for()


def test_the_openapi_document_names_what_the_page_looks_for(server: LocalServer) -> None:
    paths = httpx.get(server.url + "/openapi.json").json()["paths"]
    assert "post" in paths["/feedback"], json.dumps(sorted(paths))
