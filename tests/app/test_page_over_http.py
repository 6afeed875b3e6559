"""The page as it is served: given without a key, with headers that keep others out, and with nothing beside it."""

from __future__ import annotations

import io

import httpx
import pytest
from PIL import Image

from app.local_server import LocalServer
from app.page_files import FILES
from tests.app.texts import assert_problem, ingest
from tests.ingest.parsing.files import pdf

pytestmark = pytest.mark.e2e
SENTENCE = "The lighthouse of Varn is 41 metres high."


def test_the_page_is_given_without_a_key_and_unchanged_files_are_not_sent_again(server: LocalServer) -> None:
    for address in FILES:
        response = httpx.get(server.url + address)
        assert response.status_code == 200, address
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        if address.endswith(".js"):
            assert response.headers["content-type"].startswith("text/javascript")
    again = httpx.get(server.url + "/", headers={"If-None-Match": httpx.get(server.url + "/").headers["etag"]})
    assert again.status_code == 304
    assert httpx.head(server.url + "/").status_code == 200


@pytest.mark.parametrize("path", ["/web/", "/web/none.js", "/web/../page_files.py", "/web/%2e%2e/page_files.py"])
def test_nothing_else_is_given_as_a_file(server: LocalServer, tenant: httpx.Client, path: str) -> None:
    stranger = httpx.Client(base_url=server.url)
    request = stranger.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert_problem(stranger.send(request), 401)
    request.headers["Authorization"] = tenant.headers["Authorization"]
    assert_problem(stranger.send(request), 404)


def a_pdf(client: httpx.Client) -> str:
    files = {"files": ("varn.pdf", pdf(["First page.", f"Of towers.\n{SENTENCE} It stands on rock."]))}
    response = client.post("/ingest", params={"wait": "true"}, files=files)
    assert response.status_code == 200, response.text
    return str(response.json()["documents"][0]["id"])


def yellow(image: bytes) -> int:
    """How many pixels are as a highlighter leaves them."""
    pixels = Image.open(io.BytesIO(image)).convert("RGB").get_flattened_data()
    return sum(red > 240 and green > 200 and blue < 140 for red, green, blue in pixels)


def test_a_page_of_a_pdf_is_drawn_with_the_cited_sentence_marked(tenant: httpx.Client) -> None:
    document = a_pdf(tenant)
    text = tenant.get(f"/documents/{document}/text").text
    start = text.index(SENTENCE)
    place = {"start": start, "end": start + len(SENTENCE), "width": 400}
    page = tenant.get(f"/documents/{document}/pages/2.png", params=place)
    assert page.headers["content-type"] == "image/png"
    assert (page.headers["x-page-count"], page.headers["x-marked"]) == ("2", "true")
    assert Image.open(io.BytesIO(page.content)).width == 400
    other = tenant.get(f"/documents/{document}/pages/1.png", params=place)
    assert other.headers["x-marked"] == "false"
    assert yellow(page.content) > 500
    assert yellow(other.content) == 0


def test_what_has_no_page_says_so(tenant: httpx.Client, other_tenant: httpx.Client) -> None:
    document = a_pdf(tenant)
    detail = assert_problem(tenant.get(f"/documents/{document}/pages/3.png"), 404, "no_page_image")["detail"]
    assert "no page 3; the document has 2" in detail
    plain = ingest(tenant, "Just a text.")[0]["id"]
    assert "only PDFs" in assert_problem(tenant.get(f"/documents/{plain}/pages/1.png"), 404, "no_page_image")["detail"]
    foreign = assert_problem(other_tenant.get(f"/documents/{document}/pages/1.png"), 404, "not_found")
    assert foreign["detail"] == "There is no such document."
    for bad in ("0", "x", "-1", "9999999999"):
        assert_problem(tenant.get(f"/documents/{document}/pages/{bad}.png"), 422, "invalid_request")
    assert_problem(tenant.get(f"/documents/{document}/pages/1.png?width=5"), 422, "invalid_request")
    assert tenant.get(f"/documents/{document}/pages/1.png?start=900000&end=900001").headers["x-marked"] == "false"


def test_documents_are_found_by_a_part_of_their_title(tenant: httpx.Client) -> None:
    body = {"documents": [{"title": title, "text": title} for title in ("Harbour rules", "Old harbours", "Crane 100%")]}
    assert tenant.post("/ingest", params={"wait": "true"}, json=body).status_code == 200

    def titles(part: str) -> set[str]:
        found = tenant.get("/documents", params={"title": part}).json()
        assert found["total"] == len(found["documents"])
        return {document["title"] for document in found["documents"]}

    assert titles("HARBOUR") == {"Harbour rules", "Old harbours"}
    assert titles("100%") == {"Crane 100%"}
    assert titles("_") == titles("ship") == set()
