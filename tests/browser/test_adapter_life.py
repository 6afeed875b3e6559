"""A version on trial, before the gate, and the sets it is trained on: what a person does on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer
from tests.browser.test_page import EXAMPLES
from tests.conftest import new_tenant

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
QUESTIONS = json.dumps(
    [{"question": "How many days of annual leave do employees have?", "answers": ["28"]}] * 10
).encode()


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Any:
    """A tenant with documents and two versions of an adapter, the first one active."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.admin_key}"}) as admin:
        key = new_tenant(admin)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        documents = [("files", (path.name, path.read_bytes())) for path in (EXAMPLES / "documents").glob("*.*")]
        client.post("/ingest", params={"wait": "true"}, files=documents).raise_for_status()
        for name in ("finance", "biomed"):
            folder = EXAMPLES / "adapters" / name
            parts = [folder / each for each in ("adapter_config.json", "adapter_model.safetensors")]
            files = [("files", (path.name, path.read_bytes())) for path in parts]
            client.post("/adapters/answers/versions", files=files).raise_for_status()
        client.post("/adapters/answers/promote", json={"version": 1}).raise_for_status()
        yield client


def key_of(client: httpx.Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def test_a_version_is_tried_on_a_share_of_the_requests_and_its_answers_are_counted(
    open_page: OpenPage, client: httpx.Client
) -> None:
    page = open_page(key_of(client), "#/adapters")
    page.get_by_text("Try a version on some requests").click()
    page.get_by_label("Percent of the requests").fill("100")
    page.get_by_role("button", name="Start the trial").click()
    page.get_by_text("answers@2 answers 100% of the requests on trial").wait_for()
    answer = client.post("/ask", json={"question": "Why did revenue increase?"}, headers={"X-Adapter": "answers"})
    assert answer.json()["adapter"]["version"] == 2
    page.reload()
    row = page.get_by_role("group", name="Figures of the trial").get_by_role("row").nth(1)
    assert row.get_by_role("cell").first.inner_text() == "1"
    page.get_by_role("button", name="End the trial").click()
    page.get_by_text("The trial of answers@2 has ended.").wait_for()
    page.get_by_text("What happened").click()
    page.get_by_text("Trial of answers@2 ended").wait_for()


def test_the_gate_is_asked_from_the_page_and_says_why_it_holds_a_version_back(
    open_page: OpenPage, client: httpx.Client
) -> None:
    page = open_page(key_of(client), "#/adapters")
    page.get_by_text("Ask the gate").first.click()
    gate = page.locator("details[open]")
    gate.locator("input[type=file]").set_input_files(
        {"name": "set.json", "mimeType": "application/json", "buffer": QUESTIONS}
    )
    gate.get_by_role("button", name="Ask the gate").click()
    gate.get_by_text("The gate holds it back").wait_for(timeout=90_000)
    gate.get_by_text("Train it again with less strength").wait_for()
    gate.get_by_text("It can be promoted all the same").wait_for()
    page.get_by_text("Ask the gate").first.click()
    page.get_by_text("How answers@2 came about").click()
    page.locator("details[open]").get_by_text("The gate holds it back").wait_for()
    page.get_by_role("img", name="What the gate found").wait_for()
    page.get_by_role("link", name="Evaluation", exact=True).click()
    with page.expect_download() as report:
        page.get_by_role("button", name="Report, MD").click()
    assert "F1" in report.value.path().read_text()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Nothing was evaluated yet").wait_for()


def test_a_version_is_taken_away_as_a_file_and_deleted(open_page: OpenPage, client: httpx.Client) -> None:
    folder = EXAMPLES / "adapters" / "finance"
    parts = [folder / each for each in ("adapter_config.json", "adapter_model.safetensors")]
    files = [("files", (path.name, path.read_bytes())) for path in parts]
    client.post("/adapters/leaving/versions", files=files).raise_for_status()
    page = open_page(key_of(client), "#/adapters")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export leaving@1").click()
    assert download.value.suggested_filename == "leaving-1.zip"
    page.get_by_role("button", name="Delete leaving@1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Export leaving@1").wait_for(state="detached")
    assert client.get("/adapters/leaving").status_code == 404  # it was the last one


def test_a_training_set_is_made_from_the_documents_downloaded_and_deleted(
    open_page: OpenPage, client: httpx.Client
) -> None:
    page = open_page(key_of(client), "#/adapters")
    page.get_by_text("Training sets").click()
    page.get_by_label("Name of the set").fill("from-report")
    page.get_by_role("button", name="Make a set from the documents").click()
    made = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="from-report", exact=True))
    made.wait_for(timeout=60_000)
    with page.expect_download() as download:
        made.get_by_role("button", name="Download").click()
    lines = download.value.path().read_text().splitlines()
    assert lines
    assert all("question" in json.loads(line) for line in lines)
    made.get_by_role("button", name="Delete").click()
    made.wait_for(state="detached")


def test_the_admin_sees_how_long_answers_take(open_page: OpenPage, server: LocalServer, client: httpx.Client) -> None:
    client.post("/ask", json={"question": "Why did revenue increase?"}).raise_for_status()
    page = open_page(server.admin_key, "#/health")
    stages = page.get_by_role("group", name="Stages of an answer")
    stages.get_by_role("rowheader", name="retrieve").wait_for()
    assert "ms" in stages.get_by_role("row").nth(1).inner_text()
