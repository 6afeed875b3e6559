"""Stores of objects in a folder and in S3: what both do, and what each says when it cannot."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapters.errors import AdapterStoreFull, AdapterStoreUnavailable, UnsuitableAdapterStore
from adapters.object_store import ObjectStore, open_object_store
from app.local_server import free_port
from tests.adapters.object_store_contract import MakeStore, ObjectStoreContract
from tests.object_stores import S3Server, environment_of, s3_process


class TestFolder(ObjectStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        folder = tmp_path / "a shared folder"
        folder.mkdir()
        return lambda: open_object_store(folder.as_uri())


class TestS3(ObjectStoreContract):
    @pytest.fixture
    def make_store(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
        said_to_be_at(s3.url, monkeypatch)
        url = f"s3://{s3.make_bucket()}/services/{uuid.uuid4().hex}"
        return lambda: open_object_store(url)


def said_to_be_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(url).items():
        monkeypatch.setenv(name, value)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A server that answers everything with one error of S3."""

    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT  # noqa: N815 - the base class's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_prefix_of_a_bucket_knows_nothing_of_another_one(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said_to_be_at(s3.url, monkeypatch)
    bucket = s3.make_bucket()
    one, other = (open_object_store(f"s3://{bucket}/{prefix}") for prefix in ("one", "oneself"))
    one.put("marker", b"x")
    assert other.read("marker") is None
    assert list(other.list("")) == []
    assert s3.objects(bucket) == {"one/marker"}


@pytest.mark.parametrize("url", ["", "data", "/folder", "file://", "file:///", "file://host/folder", "gs://bucket/a"])
def test_what_is_no_address_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(UnsuitableAdapterStore, match="write file:///folder or s3://bucket/prefix"):
        open_object_store(url)


def test_s3_without_its_library_is_refused_with_what_to_install() -> None:
    code = "import sys; sys.modules['obstore'] = None\nfrom adapters import open_object_store as o; o('s3://bucket/a')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert "UnsuitableAdapterStore: An adapter store in S3 needs: pip install 'lorebase[s3]'" in ended.stderr


def test_a_folder_that_is_not_mounted_is_no_empty_store(tmp_path: Path) -> None:
    store = open_object_store((tmp_path / "nowhere").as_uri())
    for refused in (lambda: store.read("a"), lambda: store.put("a", b"x"), lambda: list(store.list(""))):
        with pytest.raises(AdapterStoreUnavailable, match=r"no folder .*nowhere\. Mount it, or make it"):
            refused()
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_without_room_says_so_and_keeps_nothing_of_what_did_not_fit(tmp_path: Path) -> None:
    store = open_object_store(tmp_path.as_uri())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(AdapterStoreFull, match=r"full\. Nothing was stored; make room"):
            store.put("a/b", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(store.list("")) == []


def test_a_bucket_that_is_not_there_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said_to_be_at(s3.url, monkeypatch)
    store = open_object_store("s3://no-such-bucket/a")
    for refused in every_call(store, tmp_path):
        with pytest.raises(AdapterStoreUnavailable, match="no-such-bucket/a cannot be used; there is no such bucket"):
            refused()


def test_keys_that_may_not_are_told_with_what_they_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_process(INITIAL_NO_AUTH_ACTION_COUNT="0") as strict:
        said_to_be_at(strict.url, monkeypatch)
        store = open_object_store("s3://bucket/a")
        for refused in every_call(store, tmp_path):
            with pytest.raises(AdapterStoreUnavailable, match=r"\(InvalidAccessKeyId\): check AWS_ACCESS_KEY_ID"):
                refused()


@pytest.mark.parametrize(("status", "code"), [(507, "XMinioStorageFull"), (403, "QuotaExceeded")])
def test_a_bucket_without_room_says_so(status: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status, code) as url:
        said_to_be_at(url, monkeypatch)
        with pytest.raises(AdapterStoreFull, match="s3://bucket/a is full"):
            open_object_store("s3://bucket/a").put("a", b"x")


def test_a_server_that_does_not_answer_is_told_and_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said_to_be_at(f"http://127.0.0.1:{free_port()}", monkeypatch)
    store = open_object_store("s3://bucket/a")
    for _ in range(2):
        with pytest.raises(AdapterStoreUnavailable, match="does not answer: check AWS_ENDPOINT_URL"):
            store.read("a")


def every_call(store: ObjectStore, tmp_path: Path) -> list:  # type: ignore[type-arg]
    return [
        lambda: store.put("a", b"x"),
        lambda: store.read("a"),
        lambda: store.fetch("a", tmp_path / "copy"),
        lambda: list(store.list("")),
        lambda: store.delete(["a"]),
    ]
