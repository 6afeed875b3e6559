"""What every store of objects does, whatever keeps them. `make_store` gives one that is empty, and again the same."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.errors import AdapterFilesDamaged
from adapters.object_store import ObjectStore

MakeStore = Callable[[], ObjectStore]


class ObjectStoreContract:
    def test_what_one_process_puts_another_reads_and_fetches(self, make_store: MakeStore, tmp_path: Path) -> None:
        make_store().put("tenants/a/v1/config", b"{}")
        other = make_store()
        assert other.read("tenants/a/v1/config") == b"{}"
        assert other.fetch("tenants/a/v1/config", tmp_path / "copy") == hashlib.sha256(b"{}").hexdigest()
        assert (tmp_path / "copy").read_bytes() == b"{}"

    def test_a_large_file_arrives_whole(self, make_store: MakeStore, tmp_path: Path) -> None:
        content = os.urandom(20_000_001)
        (tmp_path / "weights").write_bytes(content)
        store = make_store()
        store.put("weights", tmp_path / "weights")
        assert store.fetch("weights", tmp_path / "copy") == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "copy").read_bytes() == content

    def test_an_object_that_is_put_again_is_replaced(self, make_store: MakeStore) -> None:
        store = make_store()
        for content in (b"one", b"two"):
            store.put("a", content)
        assert store.read("a") == b"two"
        assert [each.key for each in store.list("")] == ["a"]

    def test_what_is_not_there_is_said_so(self, make_store: MakeStore, tmp_path: Path) -> None:
        store = make_store()
        assert store.read("nothing") is None
        assert list(store.list("nowhere")) == []
        with pytest.raises(AdapterFilesDamaged, match=r"missing.*tenants/a/v1/weights.*register it again"):
            store.fetch("tenants/a/v1/weights", tmp_path / "copy")

    def test_a_list_has_the_keys_below_some_words_and_when_they_were_put(self, make_store: MakeStore) -> None:
        store = make_store()
        for key in ("tenants/a/v1/x", "tenants/a/v2/x", "tenants/ab/v1/x", "marker"):
            store.put(key, b"x")
        assert {each.key for each in store.list("tenants/a")} == {"tenants/a/v1/x", "tenants/a/v2/x"}
        assert {each.key for each in store.list("")} == {
            "tenants/a/v1/x", "tenants/a/v2/x", "tenants/ab/v1/x", "marker",
        }  # fmt: skip
        marker = next(each for each in store.list("") if each.key == "marker")
        assert marker.changed_at > 1_600_000_000

    def test_what_is_deleted_is_gone_and_may_be_deleted_again(self, make_store: MakeStore) -> None:
        store = make_store()
        for key in ("a/1", "a/2", "b/1"):
            store.put(key, b"x")
        for _ in range(2):
            store.delete(["a/1", "a/2"])
        store.delete([])
        assert [each.key for each in make_store().list("")] == ["b/1"]

    def test_many_threads_may_put_the_same_object_and_none_reads_half_of_it(self, make_store: MakeStore) -> None:
        store = make_store()
        contents = [bytes([number]) * 100_000 for number in range(4)]
        store.put("a", contents[0])
        seen: list[bytes | None] = []
        threads = [threading.Thread(target=store.put, args=("a", content)) for content in contents]
        threads += [threading.Thread(target=lambda: seen.append(store.read("a"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(seen) <= {*contents}
