"""A registry whose versions lie in a store: complete there before they are named, and checked before they are used.

Every test is made for the store in a folder and for the one in S3.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.adapter_cache import AdapterCache
from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterFacts, AdapterRef
from adapters.errors import AdapterFilesDamaged, AdapterStoreUnavailable, InvalidAdapter, UnknownAdapter
from adapters.object_store import ObjectStore, open_object_store
from adapters.registry import AdapterRegistry
from adapters.registry_state import FileState
from adapters.stored_files import StoredFiles
from tests.object_stores import Relay, S3Server, environment_of

PLENTY = 10**9


class Store(NamedTuple):
    """A store, and how a test takes it away, and brings it back."""

    objects: ObjectStore
    take_away: Callable[[], None]
    bring_back: Callable[[], None]

    def keys(self) -> list[str]:
        return sorted(each.key for each in self.objects.list(""))


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        folder, away = tmp_path / "shared", tmp_path / "unmounted"
        folder.mkdir()
        objects = open_object_store(folder.as_uri())
        yield Store(objects, lambda: os.rename(folder, away), lambda: os.rename(away, folder))
        return
    s3: S3Server = request.getfixturevalue("s3")
    relay = Relay(s3.port)
    for name, value in environment_of(relay.url).items():
        monkeypatch.setenv(name, value)
    objects = open_object_store(f"s3://{s3.make_bucket()}/a")

    def bring_back() -> None:
        relay.join()
        wait_for(objects)

    yield Store(objects, relay.cut, bring_back)
    relay.cut()


def wait_for(objects: ObjectStore) -> None:
    """A store that could not be reached is not asked again at once."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            objects.read("marker")
        except AdapterStoreUnavailable:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the store did not come back")


class Process:
    """One of the processes that share a registry: with a data folder of its own, and the state of all."""

    def __init__(self, data: Path, state: Path, store: Store, budget: int = PLENTY) -> None:
        self.folder = data / "tenants" / "t1" / "adapters"
        self.cache = AdapterCache(data / "tenants", "*/adapters/*", budget)
        self.cache.begin()
        self.files = StoredFiles(self.folder, "tenants/t1", store.objects, self.cache)
        state.mkdir(exist_ok=True)
        self.registry = AdapterRegistry(self.folder, state=FileState(state), files=self.files)

    def ref(self, wanted: str) -> AdapterRef:
        selection = self.registry.select(wanted)
        assert selection is not None
        return selection.ref

    def weights(self, wanted: str) -> bytes:
        """What an engine reads."""
        with self.ref(wanted).at_hand() as folder:
            assert (folder / ADAPTER_CONFIG).read_bytes() == b"{}"
            return (folder / ADAPTER_WEIGHTS).read_bytes()

    def copies(self) -> int:
        return sum(each.is_dir() for each in self.folder.iterdir())


@pytest.fixture
def one(tmp_path: Path, store: Store) -> Process:
    return Process(tmp_path / "one", tmp_path / "state", store)


def another(tmp_path: Path, store: Store, budget: int = PLENTY) -> Process:
    """A process on another host that opens the registry now."""
    return Process(tmp_path / "another", tmp_path / "state", store, budget)


def accept(folder: Path) -> AdapterFacts:
    weights = folder / ADAPTER_WEIGHTS
    return AdapterFacts(sha256_of(weights), weights.stat().st_size, 8)


def refuse(_: Path) -> AdapterFacts:
    raise InvalidAdapter("shape", "does not fit")


def test_what_one_process_registers_another_reads_from_a_copy_of_its_own(
    one: Process, store: Store, tmp_path: Path
) -> None:
    version = one.registry.add("law", b"{}", b"weights", accept)
    assert store.keys() == [f"tenants/t1/{version.folder}/{file}" for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    other = another(tmp_path, store)
    assert other.copies() == 0
    assert other.weights("law@1") == b"weights"
    store.take_away()
    assert other.weights("law@1") == b"weights"
    store.bring_back()


def test_what_is_refused_leaves_nothing_in_the_store_or_here(one: Process, store: Store) -> None:
    with pytest.raises(InvalidAdapter):
        one.registry.add("law", b"{}", b"weights", refuse)
    assert (store.keys(), one.copies(), one.registry.names()) == ([], 0, [])


def test_a_version_that_the_store_does_not_take_is_not_registered(one: Process, store: Store, tmp_path: Path) -> None:
    store.take_away()
    with pytest.raises(AdapterStoreUnavailable):
        one.registry.add("law", b"{}", b"weights", accept)
    assert one.registry.names() == []
    assert one.copies() == 0
    store.bring_back()
    assert one.registry.add("law", b"{}", b"weights", accept).version == 1
    assert another(tmp_path, store).weights("law@1") == b"weights"


def test_a_version_that_cannot_be_published_leaves_nothing_in_the_store(
    one: Process, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "state" / "registry.json.tmp").mkdir()
    with pytest.raises(IsADirectoryError):
        one.registry.add("law", b"{}", b"weights", accept)
    assert (store.keys(), one.copies(), one.registry.names()) == ([], 0, [])


def test_an_object_that_was_changed_is_never_used(one: Process, store: Store, tmp_path: Path) -> None:
    version = one.registry.add("law", b"{}", b"weights", accept)
    for file in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        key = f"tenants/t1/{version.folder}/{file}"
        was = store.objects.read(key)
        assert was is not None
        store.objects.put(key, b"something else")
        other = another(tmp_path, store)
        with pytest.raises(AdapterFilesDamaged, match=f"{key} .* is not what was registered"):
            other.weights("law@1")
        assert other.copies() == 0
        store.objects.put(key, was)
        assert other.weights("law@1") == b"weights"
        shutil.rmtree(tmp_path / "another")


def test_an_object_that_is_missing_is_told_with_its_key(one: Process, store: Store, tmp_path: Path) -> None:
    version = one.registry.add("law", b"{}", b"weights", accept)
    key = f"tenants/t1/{version.folder}/{ADAPTER_WEIGHTS}"
    store.objects.delete([key])
    with pytest.raises(AdapterFilesDamaged, match=f"Restore the object {key}"):
        another(tmp_path, store).weights("law@1")


def test_a_copy_that_was_changed_is_fetched_again(one: Process, store: Store) -> None:
    version = one.registry.add("law", b"{}", b"weights", accept)
    for broken in (b"else", b"WEIGHTS", None):
        path = one.folder / version.folder / ADAPTER_WEIGHTS
        path.unlink()
        if broken is not None:
            path.write_bytes(broken)
        assert one.weights("law@1") == b"weights"


def test_copies_that_were_not_used_for_longest_make_room_and_come_back(
    one: Process, store: Store, tmp_path: Path
) -> None:
    for content in (b"a", b"b", b"c"):
        one.registry.add("law", b"{}", content * 1000, accept)
    other = another(tmp_path, store, budget=2500)
    for wanted in ("law@1", "law@2", "law@1", "law@3", "law@2", "law@1"):
        assert other.weights(wanted) == b"_abc"[int(wanted[-1]) : int(wanted[-1]) + 1] * 1000
        assert other.copies() <= 2


def test_a_copy_in_use_is_not_deleted_for_want_of_room(one: Process, store: Store, tmp_path: Path) -> None:
    for content in (b"a", b"b", b"c"):
        one.registry.add("law", b"{}", content * 1000, accept)
    other = another(tmp_path, store, budget=1500)
    with other.ref("law@1").at_hand() as folder:
        assert other.weights("law@2") == b"b" * 1000
        assert other.weights("law@3") == b"c" * 1000
        assert (folder / ADAPTER_WEIGHTS).read_bytes() == b"a" * 1000
    assert other.weights("law@2") == b"b" * 1000
    assert other.copies() == 1


def test_a_version_larger_than_all_copies_may_be_is_served_from_the_only_copy(
    one: Process, store: Store, tmp_path: Path
) -> None:
    for content in (b"a", b"b"):
        one.registry.add("law", b"{}", content * 1000, accept)
    other = another(tmp_path, store, budget=500)
    for wanted, content in (("law@1", b"a"), ("law@2", b"b"), ("law@1", b"a")):
        assert other.weights(wanted) == content * 1000
        assert other.copies() == 1


def test_many_threads_that_want_a_version_at_once_all_get_it(one: Process, store: Store, tmp_path: Path) -> None:
    one.registry.add("law", b"{}", b"weights", accept)
    other, read = another(tmp_path, store), []
    threads = [threading.Thread(target=lambda: read.append(other.weights("law@1"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [b"weights"] * 8
    assert other.copies() == 1


def test_what_is_removed_is_gone_from_the_store_and_from_every_process_that_hears_of_it(
    one: Process, store: Store, tmp_path: Path
) -> None:
    for content in (b"a", b"b"):
        one.registry.add("law", b"{}", content, accept)
    other = another(tmp_path, store)
    assert (other.weights("law@1"), other.weights("law@2")) == (b"a", b"b")
    one.registry.remove_version("law", 1)
    assert len(store.keys()) == 2
    one.registry.remove("law")
    assert (store.keys(), one.copies()) == ([], 0)
    again = another(tmp_path, store)
    assert again.copies() == 0
    with pytest.raises(UnknownAdapter):
        again.weights("law@2")


def test_a_removal_holds_though_the_store_is_away(one: Process, store: Store, tmp_path: Path) -> None:
    one.registry.add("law", b"{}", b"weights", accept)
    store.take_away()
    one.registry.remove("law")
    assert (one.registry.names(), one.copies()) == ([], 0)
    store.bring_back()
    assert another(tmp_path, store).registry.names() == []
