"""No tenant reaches anything of another: every route of the OpenAPI document, tried with the other's ids."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import httpx
import pytest

from tests.adapters.reader_lora import write_lora
from tests.app.texts import LIGHTHOUSE, ask, ingest

pytestmark = pytest.mark.e2e
CANARY = "canary7f3a"


def upload(client: httpx.Client, name: str, folder: Path) -> httpx.Response:
    paths = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    return client.post(f"/adapters/{name}/versions", files=[("files", (p.name, p.read_bytes())) for p in paths])


def test_another_tenants_ids_answer_like_unknown_ones_on_every_route(
    server: object, tenant: httpx.Client, other_tenant: httpx.Client, tmp_path: Path
) -> None:
    document = ingest(other_tenant, f"The secret word of the harbour is {CANARY}.")[0]
    job = other_tenant.post("/ingest", json={"documents": [{"text": f"Another {CANARY} text."}]}).json()["job_id"]
    assert upload(other_tenant, CANARY, write_lora(tmp_path / "a").folder).status_code == 201
    assert other_tenant.put(f"/templates/{CANARY}", json={}).status_code == 200
    made = other_tenant.post("/datasets", files={"file": ("set.jsonl", b'{"question": "Why?", "answer": "so"}')})
    assert made.status_code == 201
    asked = {"questions": [{"question": "What is it?", "answers": [CANARY]}]}
    evaluation = other_tenant.post("/evaluate", json=asked).json()["evaluation_id"]
    rated = ask(other_tenant, "What is the secret word?")["request_id"]
    foreign = {
        "dataset": made.json()["id"],
        "document_id": document["id"],
        "job_id": job,
        "evaluation_id": evaluation,
        "request_id": rated,
    }
    unknown = {name: uuid.uuid4().hex for name in foreign}
    foreign |= {"name": CANARY, "version": 1}
    unknown |= {"name": "nobody", "version": 1}
    routes = [
        (method, path)
        for path, methods in tenant.get("/openapi.json").json()["paths"].items()
        for method in methods
        if set(re.findall(r"{(\w+)}", path)) & set(foreign)
    ]
    assert len(routes) >= 10
    for method, path in routes:
        if path.endswith("/versions"):
            continue  # makes an adapter of the caller's own
        if (method, path) == ("put", "/templates/{name}"):
            continue  # makes a template of the caller's own
        bodies = {
            "promote": lambda _: {"version": 1},
            "train": lambda ids: {"dataset": ids["dataset"]},
            "canary": lambda _: {"version": 1, "percent": 10},
            "gate": lambda _: asked,
        }
        body = bodies.get(path.rsplit("/", 1)[-1], lambda _: None)
        answers = [tenant.request(method, path.format(number=1, **ids), json=body(ids)) for ids in (foreign, unknown)]
        assert answers[0].status_code == answers[1].status_code == 404, (method, path, answers[0].text)
        texts = [answer.text.replace(answer.headers["x-request-id"], "") for answer in answers]
        assert texts[0].replace(CANARY, "·") == texts[1].replace("nobody", "·"), (method, path)
    assert CANARY in other_tenant.get(f"/documents/{document['id']}/text").text


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
