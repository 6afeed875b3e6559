"""The registry: versions that never change, a pointer that does, and no half-done state on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.engine import AdapterFacts
from adapters.errors import InvalidAdapter, InvalidAdapterName, NoActiveVersion, NoEarlierVersion, UnknownAdapter
from adapters.lineage import Lineage
from adapters.registry import AdapterRegistry
from adapters.registry_entries import pinned_in
from adapters.registry_state import FileState
from adapters.version_files import FolderFiles


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


def test_everything_is_there_after_a_restart_and_what_a_crash_left_is_gone(
    registry: AdapterRegistry, tmp_path: Path
) -> None:
    registry.add("law", b"{}", b"a", accept)
    registry.promote("law", 1)
    registry.set_default("law")
    (tmp_path / "adapters" / "half-written").mkdir()
    (tmp_path / "adapters" / "registry.json.tmp").write_text('{"default": nul')
    again = AdapterRegistry(tmp_path / "adapters")
    assert again.default == "law"
    assert again.select("law") == registry.select("law")
    assert not (tmp_path / "adapters" / "half-written").exists()
    assert not (tmp_path / "adapters" / "registry.json.tmp").exists()


def test_a_pin_belongs_to_a_version_and_is_there_after_a_restart(registry: AdapterRegistry, tmp_path: Path) -> None:
    for content in (b"a", b"b"):
        registry.add("law", b"{}", content, accept)
    with pytest.raises(NoActiveVersion):
        registry.pin("law", None)
    registry.promote("law", 2)
    assert registry.pin("law", None).version == registry.pin("law", 2).version == 2
    assert registry.pin("law", 1).version == 1
    registry.pin("law", 2, pinned=False)
    folder = tmp_path / "adapters"
    files = FolderFiles(folder)
    assert AdapterRegistry(folder).pinned() == pinned_in(FileState(folder).read(), files) == registry.pinned()
    assert [ref.sha256 for ref in registry.pinned()] == [b"a".hex()]
    registry.remove("law")
    assert pinned_in(FileState(folder).read(), files) == []
    assert pinned_in(FileState(tmp_path / "nowhere").read(), files) == []


def test_a_thousand_adapters_are_listed_and_looked_up(registry: AdapterRegistry, tmp_path: Path) -> None:
    registry.add("a0000", b"{}", b"a", accept)
    stored = tmp_path / "adapters" / "registry.json"
    state = json.loads(stored.read_bytes())
    entry = state["adapters"]["a0000"]
    state["adapters"] = {name: {**entry, "name": name} for name in (f"a{i:04}" for i in range(1000))}
    stored.write_text(json.dumps(state))
    again = AdapterRegistry(tmp_path / "adapters")
    again.promote("a0999", 1)
    again.add("a0998", b"{}", b"b", accept)
    again = AdapterRegistry(tmp_path / "adapters")
    assert len(again.names()) == 1000
    assert [again.get(name).next_version for name in ("a0997", "a0998")] == [2, 3]
    selected = again.select("a0999")
    assert selected is not None
    with pytest.raises(UnknownAdapter, match="and 981 more") as unknown:
        again.select("nobody")
    assert len(str(unknown.value)) < 400


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
