"""Documents over HTTP: formats, duplicates, jobs, deletion, and files that hold nothing to read."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile

import httpx
import pytest
from docx import Document
from fpdf import FPDF

from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e


def pdf(*pages: str, password: str | None = None) -> bytes:
    document = FPDF()
    document.set_font("Helvetica", size=12)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    for page in pages:
        document.add_page()
        document.multi_cell(0, 8, page)
    return bytes(document.output())


def docx(*paragraphs: tuple[str, str]) -> bytes:
    document = Document()
    for style, text in paragraphs:
        document.add_paragraph(text, style=style)
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def send(client: httpx.Client, files: dict[str, bytes], **form: str) -> list[dict[str, object]]:
    response = client.post(
        "/ingest", params={"wait": "true"}, files=[("files", item) for item in files.items()], data=form
    )
    assert response.status_code == 200, response.text
    documents: list[dict[str, object]] = response.json()["documents"]
    return documents


def test_a_pdf_answers_with_its_page(tenant: httpx.Client) -> None:
    content = pdf("This page is about the weather in spring.", "The museum ticket costs nine euros for adults.")
    assert send(tenant, {"museum.pdf": content})[0]["status"] == "ready"
    answered = ask(tenant, "How much does the museum ticket cost?")
    assert "nine euros" in answered["answer"]
    assert answered["citations"][0]["page"] == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.md", b"# Tickets\n\n## Prices\n\nThe museum ticket costs nine euros for adults, all year round."),
        (
            "page.html",
            b"<html><head><title>Visit</title></head><body><nav>Home About</nav><main><h1>Tickets</h1><h2>Prices</h2>"
            b"<p>The museum ticket costs nine euros for adults, all year round.</p></main></body></html>",
        ),
        (
            "letter.docx",
            docx(
                ("Heading 1", "Tickets"),
                ("Heading 2", "Prices"),
                ("Normal", "The museum ticket costs nine euros for adults, all year round."),
            ),
        ),
    ],
)
def test_a_document_with_headings_answers_with_its_section(tenant: httpx.Client, name: str, content: bytes) -> None:
    assert send(tenant, {name: content})[0]["status"] == "ready"
    answered = ask(tenant, "How much does the museum ticket cost?")
    assert "nine euros" in answered["answer"]
    assert "Prices" in answered["citations"][0]["section"]


def test_without_wait_the_job_tells_its_progress_until_it_has_ended(tenant: httpx.Client) -> None:
    response = tenant.post("/ingest", json={"documents": [{"title": "one", "text": LIGHTHOUSE}]})
    assert response.status_code == 202
    job_id = response.json()["job_id"]
    with tenant.stream("GET", f"/jobs/{job_id}/events") as events:
        blocks = "".join(events.iter_text()).strip().split("\n\n")
    assert blocks[-1].startswith("event: end")
    job = json.loads(blocks[-1].split("data: ", 1)[1])
    assert job["state"] == "succeeded"
    assert job["progress"] == {"done": 1, "total": 1, "unit": "documents"}
    assert tenant.get(f"/jobs/{job_id}").json() == job


def test_the_same_content_again_is_the_same_document(tenant: httpx.Client) -> None:
    first = ingest(tenant, LIGHTHOUSE)[0]
    again = ingest(tenant, LIGHTHOUSE, "Something else entirely.", LIGHTHOUSE)
    assert [d["id"] == first["id"] for d in again] == [True, False, True]
    assert [d["duplicate"] for d in again] == [True, False, True]
    assert {d["status"] for d in again} == {"ready"}
    assert tenant.get("/documents").json()["total"] == 2


def test_json_text_is_kept_exactly(tenant: httpx.Client) -> None:
    text = "\ufeffLine one.\r\nLine two.\t\u00a0e\u0301 \u2028 🗼\n\n\n"
    document = ingest(tenant, text)[0]
    response = tenant.get(f"/documents/{document['id']}/text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.content.decode() == text


def test_chunks_lie_in_the_text_in_order(tenant: httpx.Client) -> None:
    document = ingest(tenant, "\n\n".join(f"Paragraph {i}. " + "It says a little more. " * 20 for i in range(12)))[0]
    text = tenant.get(f"/documents/{document['id']}/text").text
    page = tenant.get(f"/documents/{document['id']}/chunks").json()
    assert page["total"] == len(page["chunks"]) > 3
    assert all(c["text"] == text[c["start"] : c["end"]] for c in page["chunks"])


def test_a_deleted_document_is_in_no_result(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    assert tenant.post("/search", json={"query": "lighthouse"}).json()["passages"]
    assert tenant.delete(f"/documents/{document['id']}").status_code == 204
    assert tenant.post("/search", json={"query": "lighthouse"}).json()["passages"] == []
    for path in ("", "/text", "/chunks"):
        assert_problem(tenant.get(f"/documents/{document['id']}{path}"), 404, "not_found")
    assert_problem(tenant.delete(f"/documents/{document['id']}"), 404)
    assert ingest(tenant, LIGHTHOUSE)[0]["duplicate"] is False


def test_files_that_hold_nothing_to_read_fail_alone_with_a_reason(tenant: httpx.Client) -> None:
    blank = FPDF()
    blank.add_page()
    files = {
        "empty.txt": b"",
        "spaces.txt": b" \n\t ",
        "binary.txt": bytes(range(256)) * 40,
        "blank.pdf": bytes(blank.output()),
        "secret.pdf": pdf("The code is 4711.", password="open sesame"),
        "broken.pdf": b"%PDF-1.7\nnothing here",
        "sheet.xlsx": b"PK\x03\x04" + b"\0" * 60,
        "good.txt": LIGHTHOUSE.encode(),
    }
    documents = dict(zip(files, send(tenant, files), strict=True))
    assert documents.pop("good.txt")["status"] == "ready"
    for name, document in documents.items():
        assert document["status"] == "failed", name
        assert document["error"], name
    assert "password" in str(documents["secret.pdf"]["error"])
    assert "OCR" in str(documents["blank.pdf"]["error"])
    assert ask(tenant, "When was the lighthouse built?")["answer"] == "1874"


def test_an_archive_becomes_a_document_for_each_file_that_fails_or_not_alone(tenant: httpx.Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("letters/lighthouse.txt", LIGHTHOUSE)
        archive.writestr("../prices.csv", "Place,Ticket\nMuseum,nine euros\nZoo,twelve euros\n")
        archive.writestr("picture.png", b"\x89PNG\r\n\x1a\n....")
    documents = send(tenant, {"all.zip": packed.getvalue()})
    assert [(each["title"], each["status"]) for each in documents] == [
        ("letters/lighthouse.txt", "ready"),
        ("prices.csv", "ready"),
        ("picture.png", "failed"),
    ]
    assert "PNG image" in str(documents[2]["error"])
    assert ask(tenant, "When was the lighthouse built?")["answer"] == "1874"
    text = tenant.get(f"/documents/{documents[1]['id']}/text").text
    assert text.endswith("Place: Zoo; Ticket: twelve euros")


def test_a_zip_bomb_is_a_failed_document_with_a_reason(tenant: httpx.Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.txt", bytes(2**20))
    [document] = send(tenant, {"bomb.zip": packed.getvalue()})
    assert document["status"] == "failed"
    assert "zip bomb" in str(document["error"])


def test_metadata_and_collection_of_files_are_kept(tenant: httpx.Client) -> None:
    document = send(tenant, {"a.txt": b"Hello there."}, metadata='{"year": 2024}', collection="letters")[0]
    listed = tenant.get(f"/documents/{document['id']}").json()
    assert (listed["metadata"], listed["collection"]) == ({"year": 2024}, "letters")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\boot.ini", "a\x01b.txt", "x" * 400, "日本.txt"])
def test_a_strange_file_name_is_only_shown(tenant: httpx.Client, name: str) -> None:
    document = send(tenant, {name: b"The harbour closes at nine."})[0]
    assert document["status"] == "ready"
    title = str(document["title"])
    assert "/" not in title
    assert "\\" not in title
    assert title.isprintable()


@pytest.mark.parametrize(
    "request_fields",
    [
        {"json": {"documents": []}},
        {"json": {"documents": [{"text": ""}]}},
        {"json": {"documents": [{"text": "a\0b"}]}},
        {"json": {"documents": [{"title": "x"}]}},
        {"json": ["text"]},
        {"data": {"metadata": "{}"}, "files": {"other": b"x"}},
        {"files": {"files": b"x"}, "data": {"metadata": "no json"}},
        {"files": {"files": b"x"}, "data": {"metadata": "[]"}},
        {"files": {"files": b"x"}, "data": {"colection": "typo"}},
        {"files": {"files": b"x"}, "data": {"metadata": ['{"a": 1}', '{"a": 2}']}},
        {"files": {"files": b"x"}, "data": {"collection": ["one", "two"]}},
        {"data": {"files": "not a file"}},
        {"content": b"plain text", "headers": {"Content-Type": "text/plain"}},
        {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_a_malformed_ingest_is_refused_and_stores_nothing(
    tenant: httpx.Client, request_fields: dict[str, object]
) -> None:
    response = tenant.post("/ingest", **request_fields)  # type: ignore[arg-type]
    assert response.status_code in (400, 415, 422), response.text
    assert_problem(response, response.status_code)
    assert tenant.get("/documents").json()["total"] == 0


def test_a_cancelled_job_leaves_no_unfinished_document(tenant: httpx.Client) -> None:
    documents = [{"text": f"Document {i}. " + "It goes on for a while. " * 400} for i in range(60)]
    response = tenant.post("/ingest", json={"documents": documents})
    job = tenant.post(f"/jobs/{response.json()['job_id']}/cancel").json()
    assert job["state"] == "cancelled"
    deadline = time.monotonic() + 20
    while tenant.get("/documents", params={"status": "pending"}).json()["total"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert tenant.get("/documents", params={"status": "pending"}).json()["total"] == 0
    assert ingest(tenant, LIGHTHOUSE)[0]["status"] == "ready"


def test_content_sent_again_while_its_job_is_cancelled_is_not_lost(tenant: httpx.Client) -> None:
    body = {"documents": [{"text": f"Note {i}. " + "It goes on for a while. " * 40} for i in range(60)]}
    first = tenant.post("/ingest", json=body).json()["job_id"]
    canceller = threading.Thread(target=tenant.post, args=(f"/jobs/{first}/cancel",))
    canceller.start()
    again = tenant.post("/ingest", params={"wait": "true"}, json=body)
    canceller.join()
    assert {d["status"] for d in again.json()["documents"]} == {"ready"}


@pytest.mark.parametrize("job_id", ["nothing", "0" * 32, "%00", "..%2f..", "a'b"])
def test_an_unknown_job_is_not_found(tenant: httpx.Client, job_id: str) -> None:
    assert_problem(tenant.get(f"/jobs/{job_id}"), 404)
    assert_problem(tenant.post(f"/jobs/{job_id}/cancel"), 404)
