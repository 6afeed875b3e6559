"""The registry: versions that never change, a pointer that does, and no half-done state on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.engine import AdapterFacts
from adapters.errors import InvalidAdapter, InvalidAdapterName, NoEarlierVersion, UnknownAdapter
from adapters.lineage import Lineage
from adapters.registry import AdapterRegistry


def accept(folder: Path) -> AdapterFacts:
    content = (folder / "adapter_model.safetensors").read_bytes()
    return AdapterFacts(sha256=content.hex(), bytes=len(content), rank=8)


def refuse(folder: Path) -> AdapterFacts:
    raise InvalidAdapter("shape", "does not fit")


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "adapters")


def test_versions_count_from_one_and_none_is_active_until_promoted(registry: AdapterRegistry) -> None:
    assert [registry.add("law", b"{}", content, accept).version for content in (b"a", b"b")] == [1, 2]
    assert registry.get("law").active is None
    with pytest.raises(UnknownAdapter, match="promote"):
        registry.select("law")


def test_a_name_selects_the_active_version_and_name_at_number_any(registry: AdapterRegistry) -> None:
    for content in (b"a", b"b"):
        registry.add("law", b"{}", content, accept)
    registry.promote("law", 2)
    selected = [registry.select(wanted) for wanted in ("law", "law@1")]
    assert [s.version for s in selected if s] == [2, 1]
    assert registry.select("base") is None
    assert registry.select(None) is None


def test_a_default_serves_requests_that_name_no_adapter(registry: AdapterRegistry) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.promote("law", 1)
    registry.set_default("law")
    selection = registry.select(None)
    assert selection is not None
    assert selection.name == "law"
    assert registry.select("base") is None
    registry.set_default("base")
    assert registry.select(None) is None


def test_rollback_returns_to_what_was_active_before(registry: AdapterRegistry) -> None:
    for content in (b"a", b"b"):
        registry.add("law", b"{}", content, accept)
    registry.promote("law", 1)
    registry.promote("law", 2)
    assert registry.rollback("law").version == 1
    with pytest.raises(NoEarlierVersion):
        registry.rollback("law")


def test_a_refused_adapter_leaves_nothing_behind(registry: AdapterRegistry, tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter):
        registry.add("law", b"{}", b"a", refuse)
    assert registry.names() == []
    assert not [f for f in (tmp_path / "adapters").iterdir() if f.is_dir()]


def test_everything_is_there_after_a_restart_and_stray_folders_are_gone(
    registry: AdapterRegistry, tmp_path: Path
) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.promote("law", 1)
    registry.set_default("law")
    (tmp_path / "adapters" / "half-written").mkdir()
    again = AdapterRegistry(tmp_path / "adapters")
    assert again.default == "law"
    assert again.select("law") == registry.select("law")
    assert not (tmp_path / "adapters" / "half-written").exists()


def test_a_version_number_is_never_given_twice(registry: AdapterRegistry, tmp_path: Path) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.remove("law")
    again = AdapterRegistry(tmp_path / "adapters")
    assert again.names() == []
    assert again.add("law", b"{}", b"b", accept).version == 2


@pytest.mark.parametrize("name", ["", "base", "default", "Upper", "../x", "a/b", "-x", "a" * 64, "a\0", "ä"])
def test_a_malformed_or_reserved_name_is_refused(registry: AdapterRegistry, name: str) -> None:
    with pytest.raises(InvalidAdapterName):
        registry.add(name, b"{}", b"a", accept)


@pytest.mark.parametrize("wanted", ["nobody", "law@9", "law@", "law@x", "law@²", "../law", "", "@1"])
def test_an_unknown_adapter_is_refused_with_what_there_is(registry: AdapterRegistry, wanted: str) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.promote("law", 1)
    with pytest.raises(UnknownAdapter) as unknown:
        registry.select(wanted)
    assert unknown.value.available == ["base", "law"]


LINEAGE = Lineage(
    method="lora", objective="sft", parameters={"rank": 8}, seed=0, dataset="d1", data_sha256="ab", base="reader@1",
    base_fingerprint="cd", code_version="0.1.0", examples=40, steps=25, trainable=1000, seconds=3.5, final_loss=0.25,
    job_id="job-1", documents=("doc-1",),
)  # fmt: skip


def test_a_trained_versions_lineage_is_kept_and_an_uploaded_one_has_none(
    registry: AdapterRegistry, tmp_path: Path
) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.add("law", b"{}", b"b", accept, LINEAGE)
    for seen in (registry, AdapterRegistry(tmp_path / "adapters")):
        assert [version.lineage for version in seen.get("law").versions.values()] == [None, LINEAGE]


def test_a_training_job_that_registers_again_makes_no_second_version(registry: AdapterRegistry) -> None:
    first = registry.add("law", b"{}", b"a", accept, LINEAGE)
    assert registry.add("law", b"{}", b"a", accept, LINEAGE) == first
    assert list(registry.get("law").versions) == [1]
