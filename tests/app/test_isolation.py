"""A tenant's listings, searches and answers are its own; a deleted tenant is gone. Every route is tried with another
tenant's ids in `reliability/isolation.py`."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx
import pytest

from tests.app.texts import LIGHTHOUSE, ask, ingest

pytestmark = pytest.mark.e2e
CANARY = "canary7f3a"


def upload(client: httpx.Client, name: str, folder: Path) -> httpx.Response:
    paths = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    return client.post(f"/adapters/{name}/versions", files=[("files", (p.name, p.read_bytes())) for p in paths])


def test_listings_searches_and_answers_hold_only_ones_own(tenant: httpx.Client, other_tenant: httpx.Client) -> None:
    ingest(other_tenant, f"The secret word of the harbour is {CANARY}.")
    ingest(tenant, LIGHTHOUSE)
    question = "What is the secret word of the harbour?"
    responses = [
        tenant.get("/documents"),
        tenant.get("/adapters"),
        tenant.post("/search", json={"query": question, "top_k": 100}),
        tenant.post("/ask", json={"question": question, "top_k": 100, "min_confidence": 0}),
    ]
    assert all(r.status_code == 200 for r in responses)
    assert all(CANARY not in r.text for r in responses)
    assert ask(other_tenant, question, min_confidence=0)["answer"] == CANARY


def test_a_deleted_tenant_is_gone_with_its_key_and_folder(
    server: object, admin: httpx.Client, tenant: httpx.Client
) -> None:
    made = admin.post("/tenants", json={"name": "leaving"}).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    body = {"documents": [{"text": f"The {CANARY} stays nowhere."}]}
    assert tenant.post("/ingest", params={"wait": "true"}, json=body, headers=headers).status_code == 200
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    assert tenant.get("/documents", headers=headers).status_code == 401
    assert made["id"] not in {t["id"] for t in admin.get("/tenants").json()["tenants"]}
    assert admin.delete(f"/tenants/{made['id']}").status_code == 404


def test_tenant_names_are_unique_and_not_blank(admin: httpx.Client) -> None:
    name = uuid.uuid4().hex
    assert admin.post("/tenants", json={"name": name}).status_code == 201
    assert admin.post("/tenants", json={"name": name}).status_code == 409
    for bad in ("", " ", "x" * 101, "a\0", 5):
        assert admin.post("/tenants", json={"name": bad}).status_code == 422
