"""How documents are split, over HTTP: per tenant, per request, told by the document, and refused with a way out."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.app.texts import LIGHTHOUSE, assert_problem, ingest

pytestmark = pytest.mark.e2e
TEXT = " ".join(f"Sentence number {i} says a little about the harbour." for i in range(60))


def split_of(client: httpx.Client, document: dict[str, Any]) -> dict[str, Any]:
    split: dict[str, Any] = client.get(f"/documents/{document['id']}").json()["split"]
    return split


def send(client: httpx.Client, text: str, **fields: Any) -> dict[str, Any]:
    body = {"documents": [{"text": text}], **fields}
    response = client.post("/ingest", params={"wait": "true"}, json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()["documents"][0]
    assert document["status"] == "ready", document
    return document


def test_without_a_word_documents_are_split_recursively(tenant: httpx.Client) -> None:
    default = tenant.get("/splitting").json()
    assert default == {
        "method": "recursive", "size": 1000, "overlap": 150,
        "available": ["character", "recursive", "document", "semantic"],
    }  # fmt: skip
    assert split_of(tenant, ingest(tenant, LIGHTHOUSE)[0]) == {
        "method": "recursive", "size": 1000, "overlap": 150, "note": None
    }  # fmt: skip


def test_a_request_chooses_the_method_by_name_or_with_sizes(tenant: httpx.Client) -> None:
    named = send(tenant, TEXT + " One.", split="semantic")
    sized = send(tenant, TEXT + " Two.", split={"method": "character", "size": 200, "overlap": 50})
    assert split_of(tenant, named)["method"] == "semantic"
    assert split_of(tenant, sized) == {"method": "character", "size": 200, "overlap": 50, "note": None}
    chunks = tenant.get(f"/documents/{sized['id']}/chunks").json()["chunks"]
    assert all(c["end"] - c["start"] <= 200 for c in chunks)
    assert all(c["text"] == (TEXT + " Two.")[c["start"] : c["end"]] for c in chunks)


@pytest.mark.parametrize("field", ["document", '{"method": "document", "size": 300}'])
def test_files_take_the_same_field(tenant: httpx.Client, field: str) -> None:
    code = b"def first():\n    return 1\n\n\ndef second():\n    return 2\n"
    response = tenant.post("/ingest", params={"wait": "true"}, files={"files": ("two.py", code)}, data={"split": field})
    assert response.status_code == 200, response.text
    assert split_of(tenant, response.json()["documents"][0])["method"] == "document"


def test_a_tenants_default_holds_for_it_alone_and_a_request_goes_before_it(
    tenant: httpx.Client, other_tenant: httpx.Client
) -> None:
    chosen = tenant.put("/splitting", json={"method": "character", "size": 400, "overlap": 100})
    assert chosen.status_code == 200, chosen.text
    assert tenant.get("/splitting").json() == chosen.json()
    assert other_tenant.get("/splitting").json()["method"] == "recursive"
    assert split_of(tenant, send(tenant, TEXT)) == {"method": "character", "size": 400, "overlap": 100, "note": None}
    assert split_of(tenant, send(tenant, LIGHTHOUSE, split="recursive"))["size"] == 400


def test_the_same_content_with_another_split_is_still_one_document(tenant: httpx.Client) -> None:
    first = send(tenant, TEXT)
    again = send(tenant, TEXT, split="character")
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    assert split_of(tenant, again)["method"] == "recursive"


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("magic", "recursive"),
        ({"method": "recursive", "size": 0}, "100"),
        ({"method": "recursive", "size": 10**9}, "8000"),
        ({"method": "recursive", "size": 200, "overlap": 200}, "at most half of size: 100"),
        ({"method": "recursive", "overlap": 20}, "size together with overlap"),
        ({"size": 500}, "method"),
        ({"method": "recursive", "sise": 500}, "sise"),
        (["recursive"], "split"),
        ("a\0", "NUL"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused_with_what_is_possible(
    tenant: httpx.Client, split: Any, words: str
) -> None:
    sent = tenant.post("/ingest", json={"documents": [{"text": TEXT}], "split": split})
    assert words in assert_problem(sent, 422, "invalid_request")["detail"]
    form = split if isinstance(split, str) else json.dumps(split)
    assert_problem(tenant.post("/ingest", files={"files": b"x"}, data={"split": form}), 422, "invalid_request")
    if isinstance(split, dict):
        assert_problem(tenant.put("/splitting", json=split), 422, "invalid_request")
    assert tenant.get("/documents").json()["total"] == 0


def test_splitting_by_a_language_model_is_refused_where_there_is_none(tenant: httpx.Client) -> None:
    refused = [
        tenant.post("/ingest", json={"documents": [{"text": TEXT}], "split": "agentic"}),
        tenant.post("/ingest", files={"files": b"x"}, data={"split": "agentic"}),
        tenant.put("/splitting", json={"method": "agentic"}),
    ]
    for response in refused:
        assert "LOREBASE_MODEL" in assert_problem(response, 422, "split_unavailable")["detail"]
    assert tenant.get("/documents").json()["total"] == 0
