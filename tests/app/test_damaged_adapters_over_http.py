"""Adapter versions whose files are gone or damaged, in a running service: told by name, and nothing else is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.local_server import LocalServer
from tests.adapters.reader_lora import lora_tensors, write_lora
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, assert_problem, ingest

pytestmark = pytest.mark.e2e
ASKED = {"question": "When was the lighthouse at Skerry Point built?"}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "their folder is missing"),
    "no-weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "cut-off": (lambda folder: (folder / WEIGHTS).write_bytes(b"cut"), f"{WEIGHTS} is not what was registered"),
    "no-config": (lambda folder: (folder / CONFIG).unlink(), f"{CONFIG} is missing"),
    "garbage-config": (lambda folder: (folder / CONFIG).write_bytes(b"\xff{"), f"{CONFIG} is not what was registered"),
    "other-config": (lambda folder: (folder / CONFIG).write_text("{}"), f"{CONFIG} is not what was registered"),
    "folder-for-file": (
        lambda folder: ((folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()),
        f"{WEIGHTS} cannot be read (Is a directory)",
    ),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An adapter's two files."""
    return write_lora(tmp_path / "adapter", lora_tensors(seed=3, scale=0.1)).folder


def uploaded(server: LocalServer, client: httpx.Client, name: str, files: Path) -> Path:
    """Register a version; the folder that the service made of it."""
    before = set(server.data.glob("tenants/*/adapters/*"))
    assert upload(client, name, files).status_code == 201
    [folder] = (each for each in set(server.data.glob("tenants/*/adapters/*")) - before if each.is_dir())
    return folder


def test_a_damaged_version_answers_503_by_its_name_and_all_others_go_on(
    server: LocalServer, tenant: httpx.Client, files: Path
) -> None:
    ingest(tenant, LIGHTHOUSE)
    for name, (damage, _) in DAMAGES.items():
        upload(tenant, name, files)
        damage(uploaded(server, tenant, name, files))
    for name, (_, what) in DAMAGES.items():
        told = assert_problem(
            tenant.post("/ask", json=ASKED, headers={"X-Adapter": f"{name}@2"}), 503, "adapter_files_damaged"
        )
        assert f"The files of {name}@2 are damaged: {what}." in told["detail"]
        assert f"POST /adapters/{name}/rollback" in told["detail"]
        other = tenant.post("/ask", json=ASKED, headers={"X-Adapter": f"{name}@1"})
        assert (other.status_code, other.json()["adapter"]["version"]) == (200, 1)
    assert tenant.post("/ask", json=ASKED).json()["answer"] == "1874"
    assert {each["name"] for each in tenant.get("/adapters").json()["adapters"]} == set(DAMAGES)


def test_a_damaged_version_is_not_promoted_pinned_or_exported_and_can_be_rolled_back_replaced_and_deleted(
    server: LocalServer, tenant: httpx.Client, files: Path
) -> None:
    ingest(tenant, LIGHTHOUSE)
    upload(tenant, "north", files)
    folder = uploaded(server, tenant, "north", files)
    for version in (1, 2):
        assert tenant.post("/adapters/north/promote", json={"version": version}).status_code == 200
    (folder / WEIGHTS).unlink()
    asked = tenant.post("/ask", json={**ASKED, "stream": True}, headers={"X-Adapter": "north"})
    assert "The files of north@2 are damaged" in asked.text
    assert_problem(tenant.get("/adapters/north/versions/2/export"), 503, "adapter_files_damaged")
    assert_problem(tenant.post("/adapters/north/promote", json={"version": 2}), 503, "adapter_files_damaged")
    assert_problem(tenant.post("/adapters/north/pin", json={"version": 2}), 503, "adapter_files_damaged")
    assert [each["pinned"] for each in tenant.get("/adapters/north").json()["versions"]] == [False, False]
    gate = {"questions": [{"question": ASKED["question"], "answers": ["1874"]}]}
    ended = tenant.post("/adapters/north/versions/2/gate", json=gate, params={"wait": "true"}).json()
    assert ended["state"] == "failed"
    assert "The files of north@2 are damaged" in ended["error"]
    assert tenant.post("/adapters/north/rollback").json()["version"] == 1
    assert tenant.post("/ask", json=ASKED, headers={"X-Adapter": "north"}).status_code == 200
    assert tenant.delete("/adapters/north/versions/2").status_code == 204
    assert upload(tenant, "north", files).json()["version"] == 3
    assert tenant.post("/adapters/north/promote", json={"version": 3}).status_code == 200
    assert tenant.post("/ask", json=ASKED, headers={"X-Adapter": "north"}).json()["adapter"]["version"] == 3
