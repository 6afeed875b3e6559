"""Adapters by header: upload, promote, select, roll back, and what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
import torch

from tests.adapters.reader_lora import lora_tensors, write_lora
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTION = "What turned the lamp until 1962?"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two different adapters for the reader."""
    return [write_lora(tmp_path / str(seed), lora_tensors(seed=seed)).folder for seed in (1, 2)]


def test_an_adapter_serves_once_promoted_and_is_named_in_body_and_header(
    tenant: httpx.Client, folders: list[Path]
) -> None:
    ingest(tenant, LIGHTHOUSE)
    created = upload(tenant, "sea", folders[0])
    assert created.status_code == 201
    assert created.json()["version"] == 1
    assert_problem(tenant.post("/ask", json={"question": QUESTION}, headers={"X-Adapter": "sea"}), 404)
    assert tenant.post("/adapters/sea/promote", json={"version": 1}).json()["version"] == 1
    response = tenant.post("/ask", json={"question": QUESTION}, headers={"X-Adapter": "sea"})
    assert response.headers["x-adapter-used"] == "sea@1"
    assert response.json()["adapter"] == {"name": "sea", "version": 1, "sha256": created.json()["sha256"]}
    base = ask(tenant, QUESTION, adapter="base", min_confidence=0)
    assert base["adapter"] is None
    assert ask(tenant, QUESTION, adapter="sea", min_confidence=0)["confidence"] != base["confidence"]


def test_versions_can_be_asked_for_by_number_and_rolled_back(tenant: httpx.Client, folders: list[Path]) -> None:
    ingest(tenant, LIGHTHOUSE)
    for number, folder in enumerate(folders, start=1):
        assert upload(tenant, "sea", folder).json()["version"] == number
        tenant.post("/adapters/sea/promote", json={"version": number})
    assert ask(tenant, QUESTION, adapter="sea")["adapter"]["version"] == 2
    assert ask(tenant, QUESTION, adapter="sea@1")["adapter"]["version"] == 1
    assert tenant.post("/adapters/sea/rollback").json()["version"] == 1
    assert ask(tenant, QUESTION, adapter="sea")["adapter"]["version"] == 1
    assert_problem(tenant.post("/adapters/sea/rollback"), 409, "no_earlier_version")


def test_the_default_adapter_serves_requests_without_a_header(tenant: httpx.Client, folders: list[Path]) -> None:
    ingest(tenant, LIGHTHOUSE)
    upload(tenant, "sea", folders[0])
    tenant.post("/adapters/sea/promote", json={"version": 1})
    assert ask(tenant, QUESTION)["adapter"] is None
    upload(tenant, "land", folders[1])
    assert_problem(tenant.put("/adapters/default", json={"name": "land"}), 409, "no_active_version")
    assert tenant.put("/adapters/default", json={"name": "sea"}).json() == {"name": "sea"}
    assert ask(tenant, QUESTION)["adapter"]["name"] == "sea"
    assert tenant.put("/adapters/default", json={"name": "base"}).json() == {"name": "base"}
    assert ask(tenant, QUESTION)["adapter"] is None


def test_the_listing_shows_versions_the_active_one_and_what_is_resident(
    tenant: httpx.Client, folders: list[Path]
) -> None:
    ingest(tenant, LIGHTHOUSE)
    for folder in folders:
        upload(tenant, "sea", folder)
    tenant.post("/adapters/sea/promote", json={"version": 2})
    ask(tenant, QUESTION, adapter="sea")
    (listed,) = tenant.get("/adapters").json()["adapters"]
    assert listed == tenant.get("/adapters/sea").json()
    assert listed["active"] == 2
    assert [v["state"] for v in listed["versions"]] == ["registered", "resident"]
    assert tenant.delete("/adapters/sea").status_code == 204
    assert tenant.get("/adapters").json()["adapters"] == []


def test_a_pin_keeps_a_version_in_memory_and_is_told_in_the_listing(tenant: httpx.Client, folders: list[Path]) -> None:
    upload(tenant, "sea", folders[0])
    assert_problem(tenant.post("/adapters/sea/pin"), 409, "no_active_version")
    assert_problem(tenant.post("/adapters/land/pin"), 404, "unknown_adapter")
    assert_problem(tenant.post("/adapters/sea/pin", json={"version": 2}), 404, "unknown_adapter")
    tenant.post("/adapters/sea/promote", json={"version": 1})
    assert tenant.post("/adapters/sea/pin").json() == {"name": "sea", "version": 1, "pinned": True}
    states = set()
    for _ in range(500):
        (version,) = tenant.get("/adapters/sea").json()["versions"]
        assert version["pinned"]
        states.add(version["state"])
        if version["state"] == "resident":
            break
    assert states <= {"registered", "loading", "resident"}
    assert "resident" in states
    released = tenant.post("/adapters/sea/pin", json={"pinned": False, "version": 1})
    assert released.json() == {"name": "sea", "version": 1, "pinned": False}
    assert not tenant.get("/adapters/sea").json()["versions"][0]["pinned"]


@pytest.mark.parametrize(
    "wanted", ["nobody", "sea@9", "../sea", "SEA", "sea@", "sea@01", "sea@" + "9" * 4400, "x" * 5000, "default"]
)
def test_an_unknown_adapter_is_answered_with_what_there_is(
    tenant: httpx.Client, folders: list[Path], wanted: str
) -> None:
    upload(tenant, "sea", folders[0])
    response = tenant.post("/ask", json={"question": QUESTION}, headers={"X-Adapter": wanted})
    assert assert_problem(response, 404, "unknown_adapter")["available"] == ["base", "sea"]


def test_a_bad_upload_is_refused_with_the_reason_and_registers_nothing(tenant: httpx.Client, tmp_path: Path) -> None:
    zero_b = {name: t * 0 if "lora_B" in name else t for name, t in lora_tensors().items()}
    no_effect = write_lora(tmp_path / "a", zero_b).folder
    assert assert_problem(upload(tenant, "sea", no_effect), 422, "invalid_adapter")["reason"] == "no_effect"
    pickled = write_lora(tmp_path / "b").folder
    (pickled / "adapter_model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    assert assert_problem(upload(tenant, "sea", pickled), 422, "invalid_adapter")["reason"] == "format"
    one_file = [("files", ("adapter_config.json", b"{}"))]
    assert_problem(tenant.post("/adapters/sea/versions", files=one_file), 422, "invalid_adapter")
    odd = {name: t.to(torch.float8_e4m3fn) for name, t in lora_tensors().items()}
    float8 = write_lora(tmp_path / "d", odd).folder
    assert assert_problem(upload(tenant, "sea", float8), 422, "invalid_adapter")["reason"] == "format"
    assert_problem(upload(tenant, "base", write_lora(tmp_path / "c").folder), 422, "invalid_adapter_name")
    assert tenant.get("/adapters").json() == {"default": "base", "adapters": []}
    assert_problem(tenant.post("/adapters/sea/promote", json={"version": 1}), 404)


def test_swapping_versions_under_load_drops_no_request_and_mixes_no_version(
    tenant: httpx.Client, folders: list[Path]
) -> None:
    ingest(tenant, LIGHTHOUSE)
    for folder in folders:
        upload(tenant, "sea", folder)
    tenant.post("/adapters/sea/promote", json={"version": 1})
    expected = {v: ask(tenant, QUESTION, adapter=f"sea@{v}", min_confidence=0)["confidence"] for v in (1, 2)}
    assert abs(expected[1] - expected[2]) > 0.04, "the two versions must be told apart below"
    failures: list[str] = []

    def ask_on() -> None:
        for _ in range(8):
            response = tenant.post(
                "/ask", json={"question": QUESTION, "min_confidence": 0}, headers={"X-Adapter": "sea"}
            )
            body = response.json()
            if response.status_code != 200 or body["confidence"] != pytest.approx(
                expected[body["adapter"]["version"]], abs=0.02
            ):
                failures.append(response.text)

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        tenant.post("/adapters/sea/promote", json={"version": turn % 2 + 1})
    for thread in threads:
        thread.join()
    assert failures == []
