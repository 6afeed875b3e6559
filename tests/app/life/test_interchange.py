"""Versions go out and come in as archives in peft's format; what is no such archive is refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest

from adapters.errors import InvalidAdapter
from app.life.interchange import lineage_of_upload, unpack
from tests.adapters.reader_lora import lora_tensors, write_lora
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "format"),
        (b"PK\x03\x04 but no archive", "format"),
        (zipped({"adapter_config.json": b"{}"}), "format"),
        (zipped({"a/adapter_config.json": b"{}", "b/adapter_config.json": b"{}",
                 "adapter_model.safetensors": b""}), "format"),
        (zipped({"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(10_000_000)}), "size"),
        *((zipped({"adapter_config.json": b"{}", "adapter_model.safetensors": b"w", outside: b""}), "format")
          for outside in ("../x", "/tmp/x", "..\\..\\x", "a/../../x")),
        (zipped({str(i): b"" for i in range(101)}), "size"),
        (zipped({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 1000})[:-60], "format"),
    ],
)  # fmt: skip
def test_what_is_no_archive_of_an_adapter_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidAdapter) as refused:
        unpack(content)
    assert refused.value.reason == reason


def test_the_two_files_are_found_in_a_folder_and_the_rest_is_left_alone() -> None:
    files = {
        "x/adapter_config.json": b"{}",
        "x/adapter_model.safetensors": b"w",
        "x/run.py": b"import os",
    }
    assert unpack(zipped(files)) == (b"{}", b"w", None)
    assert unpack(zipped({**files, "x/lineage.json": b"[]"})) == (b"{}", b"w", b"[]")


def test_what_is_known_of_an_upload_is_what_its_config_and_the_record_of_an_export_say() -> None:
    config = json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "reader", "odd": {}}).encode()
    known = lineage_of_upload(config, None)
    assert (known.origin, known.method, known.base, known.parameters) == ("uploaded", "lora", "reader", {"r": 4})
    record = {
        "method": "lora",
        "objective": "sft",
        "documents": ["d1"],
        "job_id": "j",
        "version": 3,
        "origin": "trained",
    }
    said = lineage_of_upload(config, json.dumps(record).encode())
    assert (said.origin, said.documents, said.job_id, said.base) == ("imported", ("d1",), "j", "reader")


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b"\xff", b'{"method": "lora", "objective": "sft", "documents": [1]}']
)
def test_a_record_that_is_malformed_says_nothing(record: bytes) -> None:
    for config in (b"{}", b"nothing", b"[1]"):
        assert lineage_of_upload(config, record).origin == "uploaded"


@pytest.mark.e2e
def test_a_version_exported_is_what_peft_writes_and_comes_in_again_as_it_was(
    tenant: httpx.Client, other_tenant: httpx.Client, tmp_path: Path
) -> None:
    ingest(tenant, LIGHTHOUSE)
    ingest(other_tenant, LIGHTHOUSE)
    sha256 = upload(tenant, "sea", write_lora(tmp_path / "a", lora_tensors(seed=5)).folder).json()["sha256"]
    exported = tenant.get("/adapters/sea/versions/1/export")
    assert exported.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors", "lineage.json"]
        assert json.loads(archive.read("lineage.json"))["origin"] == "uploaded"
    came = other_tenant.post("/adapters/sea/versions", files=[("files", ("sea.zip", exported.content))])
    assert came.json() == {"name": "sea", "version": 1, "sha256": sha256}
    question = "What turned the lamp until 1962?"
    both = [ask(each, question, adapter="sea@1", min_confidence=0) for each in (tenant, other_tenant)]
    assert both[0]["answer"] == both[1]["answer"]
    bad = other_tenant.post("/adapters/sea/versions", files=[("files", ("sea.zip", b"no"))])
    assert assert_problem(bad, 422, "invalid_adapter")["reason"] == "format"


@pytest.mark.e2e
def test_a_version_is_deleted_unless_it_serves_and_its_number_stays_taken(tenant: httpx.Client, tmp_path: Path) -> None:
    for seed in (1, 2):
        upload(tenant, "sea", write_lora(tmp_path / str(seed), lora_tensors(seed=seed)).folder)
    tenant.post("/adapters/sea/promote", json={"version": 2})
    assert_problem(tenant.delete("/adapters/sea/versions/2"), 409, "version_in_use")
    tenant.post("/adapters/sea/canary", json={"version": 1, "percent": 10})
    assert_problem(tenant.delete("/adapters/sea/versions/1"), 409, "version_in_use")
    tenant.post("/adapters/sea/canary", json={"version": 1, "percent": 0})
    assert tenant.delete("/adapters/sea/versions/1").status_code == 204
    assert_problem(tenant.delete("/adapters/sea/versions/1"), 404, "unknown_adapter")
    assert [v["version"] for v in tenant.get("/adapters/sea").json()["versions"]] == [2]
    assert upload(tenant, "sea", tmp_path / "1").json()["version"] == 3


@pytest.mark.model
def test_an_exported_adapter_loads_in_plain_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    from adapters import AdapterRef, AdapterVersion
    from adapters.base_model import load_reader_base
    from app.life.interchange import pack

    finance = Path(__file__).parents[3] / "examples" / "adapters" / "finance"
    version = AdapterVersion(1, "x", "finance", 1, 8, 0.0)
    with zipfile.ZipFile(io.BytesIO(pack(version, AdapterRef("x", finance)))) as archive:
        archive.extractall(tmp_path)
    loaded = PeftModel.from_pretrained(load_reader_base().model, str(tmp_path))
    assert loaded.peft_config["default"].r == 8
