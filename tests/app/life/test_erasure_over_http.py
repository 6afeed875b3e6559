"""Deleting a document reaches what was trained on it: told, blocked or trained again, as the tenant wants."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters.reader_lora import lora_tensors, write_lora
from tests.app.life.test_interchange import zipped
from tests.app.test_isolation import upload
from tests.app.test_training_over_http import TOWNS, send_set, send_towns, town_lines, wait_for
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e


def train(client: httpx.Client, **settings: Any) -> int:
    """The number of a version trained on the towns."""
    send_towns(client)
    send_set(client, town_lines(), "towns")
    body = {"dataset": "towns", "targets": "all", "epochs": 1, **settings}
    job = wait_for(client, client.post("/adapters/towns/train", json=body).json()["id"], "succeeded", "failed")
    assert job["error"] is None
    return int(job["result"]["version"])


def document_of(client: httpx.Client, title: str) -> str:
    (found,) = client.get("/documents", params={"title": title}).json()["documents"]
    return str(found["id"])


def versions(client: httpx.Client) -> dict[int, dict[str, Any]]:
    return {each["version"]: each for each in client.get("/adapters/towns").json()["versions"]}


def events(client: httpx.Client) -> list[tuple[str, int]]:
    return [(each["event"], each["version"]) for each in client.get("/adapters/towns").json()["history"]]


def test_a_version_trained_on_a_deleted_document_says_so_and_serves_no_more_where_that_is_the_policy(
    tenant: httpx.Client, tmp_path: Path
) -> None:
    assert tenant.get("/policy").json()["on_erasure"] == "warn"
    upload(tenant, "towns", write_lora(tmp_path / "a", lora_tensors(seed=5)).folder)
    tenant.post("/adapters/towns/promote", json={"version": 1})
    assert train(tenant) == 2
    tenant.post("/adapters/towns/promote", json={"version": 2})
    deleted = document_of(tenant, "Nameford 11")
    lineage = versions(tenant)[2]["lineage"]
    assert deleted in lineage["documents"]
    assert lineage["document_sha256"][deleted] == hashlib.sha256(TOWNS[11].encode()).hexdigest()
    assert ask(tenant, "Who leads Nameford 3?", adapter="towns")["warnings"] == []

    assert tenant.delete(f"/documents/{deleted}").status_code == 204
    shown = versions(tenant)
    assert [(each["document_id"], each["cause"]) for each in shown[2]["tainted"]] == [(deleted, "deleted")]
    assert shown[1]["tainted"] == [], "nothing is known to tie the uploaded one to it"
    assert events(tenant)[0] == ("tainted", 2)
    told = tenant.get("/audit").json()["entries"][0]["object"]
    assert told == {"document_id": deleted, "tainted": "towns@2"}
    answered = tenant.post("/ask", json={"question": "Who leads Nameford 3?"}, headers={"X-Adapter": "towns"})
    assert answered.headers["x-adapter-used"] == "towns@2"
    assert "erased" in answered.headers["x-adapter-warning"]
    assert "towns@2 was trained on a document erased since." in answered.json()["warnings"]
    said = {"model": "towns", "messages": [{"role": "user", "content": "Who leads Nameford 3?"}]}
    chat = tenant.post("/v1/chat/completions", json=said)
    assert "erased" in chat.json()["lorebase"]["warnings"][0]
    exported = tenant.get("/adapters/towns/versions/2/export").content
    tenant.post("/adapters/towns/versions", files=[("files", ("towns.zip", exported))])
    again = versions(tenant)[3]
    assert again["lineage"]["origin"] == "imported"
    assert again["tainted"], "a copy is tainted as what it was copied from"

    assert tenant.put("/policy", json={"on_erasure": "block"}).json()["on_erasure"] == "block"
    adapter = tenant.get("/adapters/towns").json()
    assert adapter["active"] == 1
    assert "erased" in adapter["history"][0]["reason"]
    assert ask(tenant, "Who leads Nameford 3?", adapter="towns")["adapter"]["version"] == 1
    for problem in (
        tenant.post("/ask", json={"question": "Who?"}, headers={"X-Adapter": "towns@2"}),
        tenant.post("/v1/chat/completions", json={**said, "model": "towns@2"}),
        tenant.post("/v1/load_lora_adapter", json={"lora_name": "towns@2"}),
        tenant.post("/adapters/towns/promote", json={"version": 2}),
        tenant.post("/adapters/towns/canary", json={"version": 3, "percent": 10}),
    ):
        assert "train towns again" in assert_problem(problem, 409, "adapter_tainted")["detail"]
    assert_problem(tenant.post("/adapters/towns/rollback"), 409, "no_earlier_version")


def test_where_no_version_may_serve_the_name_is_refused_and_a_default_leaves_it_to_the_base_and_says_so(
    tenant: httpx.Client, tmp_path: Path
) -> None:
    send_towns(tenant)
    replaced = document_of(tenant, "Nameford 11")
    record = {"method": "lora", "objective": "sft", "documents": [replaced]}
    folder = write_lora(tmp_path / "a", lora_tensors(seed=5)).folder
    names = ("adapter_config.json", "adapter_model.safetensors")
    archive = zipped(
        {**{name: (folder / name).read_bytes() for name in names}, "lineage.json": json.dumps(record).encode()}
    )
    assert tenant.post("/adapters/towns/versions", files=[("files", ("towns.zip", archive))]).status_code == 201
    tenant.post("/adapters/towns/promote", json={"version": 1})
    tenant.put("/adapters/default", json={"name": "towns"})
    tenant.put("/policy", json={"on_erasure": "block"})
    replaced = document_of(tenant, "Nameford 11")
    new = {"documents": [{"title": "Nameford 11", "text": "Nameford 11 has no bridge any more."}]}
    assert tenant.put(f"/documents/{replaced}", params={"wait": "true"}, json=new).status_code == 200
    problem = assert_problem(
        tenant.post("/ask", json={"question": "Who?"}, headers={"X-Adapter": "towns"}), 409, "adapter_tainted"
    )
    assert "'base'" in problem["detail"]
    assert [each["cause"] for each in versions(tenant)[1]["tainted"]] == ["replaced"]
    assert events(tenant)[:2] == [("withdrawn", 1), ("tainted", 1)]
    answered = ask(tenant, "Who leads Nameford 3?")
    assert answered["adapter"] is None
    assert "base model answered" in answered["warnings"][0]


def test_the_active_version_is_trained_again_without_the_deleted_document_and_goes_through_the_gate(
    tenant: httpx.Client,
) -> None:
    train(tenant)
    tenant.post("/adapters/towns/promote", json={"version": 1})
    lines = [json.loads(line) for line in town_lines().splitlines()]
    held_out = [{**lines[n], "passage": TOWNS[n // 2], "question": f"Say: {lines[n]['question']}"} for n in range(3)]
    send_set(tenant, "\n".join(map(json.dumps, held_out)).encode(), "towns-held-out")
    tenant.put("/policy", json={"on_erasure": "retrain"})
    deleted = [document_of(tenant, f"Nameford {n}") for n in (10, 11)]
    assert tenant.post("/documents/delete", json={"ids": deleted}).json()["deleted"] == 2
    jobs = tenant.get("/jobs").json()["jobs"]
    assert [job["kind"] for job in jobs[:2]] == ["train", "train"], "the one that made it, and another"
    job = wait_for(tenant, jobs[0]["id"], "succeeded", "failed")
    assert job["error"] is None
    assert any("4 examples were left out" in warning for warning in job["warnings"]), job["warnings"]
    again = versions(tenant)[2]
    assert (again["lineage"]["examples"], again["tainted"]) == (20, [])
    assert not set(deleted) & set(again["lineage"]["documents"])
    evaluation = tenant.get(f"/evaluations/{job['result']['evaluation_id']}").json()
    wait_for(tenant, evaluation["job_id"], "succeeded", "failed")
    gate = versions(tenant)[2]["gate"]
    assert not gate["passed"], "three questions are too few"
    assert tenant.get("/adapters/towns").json()["active"] == 1
    assert [job["kind"] for job in tenant.get("/jobs").json()["jobs"]].count("train") == 2, "trained again once"
    assert ("retraining", 1) in events(tenant)


def test_a_set_names_the_documents_that_its_examples_come_from(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    sentence = LIGHTHOUSE.split(". ")[0]
    lines = [
        {"question": "What is it?", "answer": sentence.split()[1], "passage": sentence},
        {"question": "By title?", "answer": "yes", "document": document["title"]},
        {"question": "From elsewhere?", "answer": "yes", "passage": "Yes, this stands in no document."},
    ]
    sent = send_set(tenant, "\n".join(map(json.dumps, lines)).encode())
    (source,) = sent.json()["sources"]
    assert (source["document_id"], source["examples"]) == (document["id"], [0, 1])
    assert source["sha256"] == hashlib.sha256(LIGHTHOUSE.encode()).hexdigest()


def test_a_policy_that_is_none_is_refused(tenant: httpx.Client) -> None:
    assert_problem(tenant.put("/policy", json={"on_erasure": "forget"}), 422, "invalid_request")
