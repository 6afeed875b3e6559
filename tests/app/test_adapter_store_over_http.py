"""Server processes whose adapters are in S3: what a client sees, also while the store is away, full or damaged."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from app.local_server import free_port
from tests.adapters.reader_lora import write_lora
from tests.app.test_isolation import upload
from tests.app.test_postgres_over_http import serve
from tests.app.test_replicas_over_http import within
from tests.app.test_restart import KEY, running, wait_until_ready
from tests.app.test_training_over_http import send_set, send_towns, town_lines, wait_for
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.databases import fresh_database
from tests.object_stores import Relay, S3Server, environment_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ADMIN = "the-admin-key-of-these-tests"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
QUESTION = "When was the lighthouse built?"
SOON = 5.0


class Shared(NamedTuple):
    """A store that servers share, through a way that can be cut."""

    s3: S3Server
    relay: Relay
    bucket: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            **environment_of(self.relay.url), "LOREBASE_ADAPTER_STORE": f"s3://{self.bucket}/lorebase",
            "LOREBASE_ADMIN_KEY": ADMIN, "LOREBASE_LOG_LEVEL": "warning", "LOREBASE_TRAINING_NICENESS": "0",
        }  # fmt: skip

    def weights(self) -> list[str]:
        return sorted(key for key in self.s3.objects(self.bucket) if key.endswith(".safetensors"))


@pytest.fixture
def shared(s3: S3Server) -> Iterator[Shared]:
    relay = Relay(s3.port)
    yield Shared(s3, relay, s3.make_bucket())
    relay.cut()


def accepted(client: httpx.Client, name: str, folder: Path) -> int:
    """The number of a version that is registered as soon as the store is asked again."""
    tried: list[httpx.Response] = []

    def is_taken() -> bool:
        tried.append(upload(client, name, folder))
        return tried[-1].status_code == 201

    assert within(SOON, is_taken), tried[-1].text
    return int(tried[-1].json()["version"])


def test_a_server_waits_for_its_store_and_refuses_what_the_store_does_not_take(shared: Shared, tmp_path: Path) -> None:
    shared.relay.cut()
    port = free_port()
    environment = {
        **os.environ, **shared.settings, "LOREBASE_DATA": str(tmp_path / "data"), "LOREBASE_PORT": str(port),
        "LOREBASE_DEFAULT_KEY": KEY,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "serve"], env=environment, stdout=subprocess.DEVNULL)
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            assert within(90, lambda: "the store of adapter files" in said(client).lower()), said(client)
            assert "check AWS_ENDPOINT_URL" in said(client)
            shared.relay.join()
            wait_until_ready(process, client)  # type: ignore[arg-type]

            lora = write_lora(tmp_path / "lora").folder
            assert accepted(client, "sea", lora) == 1
            assert len(shared.weights()) == 1
            ingest(client, LIGHTHOUSE)

            shared.relay.cut()
            body = assert_problem(upload(client, "sea", lora), 503, "adapter_store_unavailable")
            assert "Try again" in body["detail"]
            assert [each["version"] for each in client.get("/adapters/sea").json()["versions"]] == [1]
            assert ask(client, QUESTION, adapter="sea@1")["adapter"]["version"] == 1  # there is a copy
            made = client.post("/tenants", json={"name": "short-lived"}, headers=AS_ADMIN).json()
            refused = client.delete(f"/tenants/{made['id']}", headers=AS_ADMIN)
            assert_problem(refused, 503, "adapter_store_unavailable")
            shared.relay.join()
            assert accepted(client, "sea", lora) == 2

            own = httpx.Client(base_url=client.base_url, headers={"Authorization": f"Bearer {made['api_key']}"})
            with own:
                assert upload(own, "sea", lora).status_code == 201
            assert any(made["id"] in key for key in shared.weights())
            assert client.delete(f"/tenants/{made['id']}", headers=AS_ADMIN).status_code == 204
            assert not any(f"tenants/{made['id']}" in key for key in shared.s3.objects(shared.bucket))
    finally:
        process.kill()
        process.wait()


def said(client: httpx.Client) -> str:
    """Why a server is not ready."""
    try:
        return str(client.get("/readyz").json()["reason"])
    except httpx.TransportError:
        return ""


@pytest.fixture
def two(shared: Shared, postgres_superuser: str, tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client, str]]:
    """Two servers on one database and one store, each with a data folder of its own; and the database."""
    with fresh_database(postgres_superuser) as url, ExitStack() as servers:
        settings = {**shared.settings, "LOREBASE_DATABASE_URL": url}
        a, b = (servers.enter_context(running(tmp_path / name, **settings))[1] for name in ("a", "b"))
        yield a, b, url


@pytest.mark.long
def test_what_is_registered_at_one_host_answers_at_another_with_a_folder_of_its_own(
    two: tuple[httpx.Client, httpx.Client, str], shared: Shared, tmp_path: Path
) -> None:
    a, b, url = two
    lora = write_lora(tmp_path / "lora").folder
    ingest(a, LIGHTHOUSE)
    send_towns(a)
    assert upload(a, "sea", lora).status_code == 201
    assert a.post("/adapters/sea/promote", json={"version": 1}).status_code == 200
    assert within(SOON, lambda: b.get("/adapters").json()["adapters"] != [])
    answers = [ask(client, QUESTION, adapter="sea") for client in (a, b)]
    assert answers[0]["answer"] == answers[1]["answer"]
    assert answers[1]["adapter"] == answers[0]["adapter"]
    exported = b.get("/adapters/sea/versions/1/export").content
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert archive.read(name) == (lora / name).read_bytes()
    again = b.post("/adapters/lake/versions", files=[("files", ("lake.zip", exported))])
    assert again.status_code == 201, again.text
    assert within(SOON, lambda: ask_or_none(a, "lake@1") == again.json()["sha256"])

    order = {"dataset": send_set(a, town_lines(), "towns").json()["id"], "epochs": 1}
    job = a.post("/adapters/sea/train", json=order)
    assert job.status_code == 202, job.text
    wait_for(a, job.json()["id"], "succeeded", seconds=240)
    assert within(SOON, lambda: ask_or_none(b, "sea@2") is not None)

    copies = {host: set((tmp_path / host).glob("tenants/*/adapters/*/*.safetensors")) for host in "ab"}
    assert len(copies["a"]) == len(copies["b"]) == 3
    assert b.delete("/adapters/lake").status_code == 204
    assert within(SOON, lambda: len(set((tmp_path / "a").glob("tenants/*/adapters/*/*.safetensors"))) == 2)
    assert len(shared.weights()) == 2

    plain = serve(tmp_path / "c", LOREBASE_DATABASE_URL=url)
    assert plain.returncode == 1
    assert "Give all processes the same LOREBASE_ADAPTER_STORE" in plain.stderr
    told = serve(tmp_path / "a", "doctor", **{**shared.settings, "LOREBASE_DATABASE_URL": url}).stdout
    assert f"s3://{shared.bucket}/lorebase has every file that is registered" in told


def ask_or_none(client: httpx.Client, adapter: str) -> str | None:
    """The weights that answer, once the adapter is known."""
    response = client.post("/ask", json={"question": QUESTION}, headers={"X-Adapter": adapter})
    return str(response.json()["adapter"]["sha256"]) if response.status_code == 200 else None


@pytest.mark.long
def test_objects_that_were_lost_or_changed_are_told_and_never_answer(
    two: tuple[httpx.Client, httpx.Client, str], shared: Shared, tmp_path: Path
) -> None:
    a, b, _ = two
    ingest(a, LIGHTHOUSE)
    assert upload(a, "sea", write_lora(tmp_path / "lora").folder).status_code == 201
    [key] = shared.weights()
    assert within(SOON, lambda: b.get("/adapters").json()["adapters"] != [])
    shared.s3.put(shared.bucket, key, b"something else")
    asked: Callable[[], httpx.Response] = lambda: b.post(  # noqa: E731
        "/ask", json={"question": QUESTION}, headers={"X-Adapter": "sea@1"}
    )
    assert "is not what was registered" in assert_problem(asked(), 503, "adapter_files_damaged")["detail"]
    shared.s3.delete(shared.bucket, key)
    detail = assert_problem(asked(), 503, "adapter_files_damaged")["detail"]
    assert key.removeprefix("lorebase/") in detail
    assert ask(a, QUESTION, adapter="sea@1")["adapter"]["version"] == 1


@pytest.mark.long
def test_a_backup_of_a_server_with_a_store_is_served_without_one(shared: Shared, tmp_path: Path) -> None:
    with running(tmp_path / "data", **shared.settings) as (process, client):
        ingest(client, LIGHTHOUSE)
        assert upload(client, "sea", write_lora(tmp_path / "lora").folder).status_code == 201
        before = ask(client, QUESTION, adapter="sea@1")
        process.terminate()
        process.wait(60)
    for copy in (tmp_path / "data").glob("tenants/*/adapters/*/*.safetensors"):
        copy.unlink()
    archive = tmp_path / "backup.tar"
    taken = serve(tmp_path / "data", "backup", str(archive), **shared.settings)
    assert taken.returncode == 0, taken.stderr
    assert serve(tmp_path / "restored", "restore", str(archive)).returncode == 0
    refused = serve(tmp_path / "data")
    assert (refused.returncode, "set LOREBASE_ADAPTER_STORE to it" in refused.stderr) == (1, True)
    with running(tmp_path / "restored", LOREBASE_ADMIN_KEY=ADMIN) as (_, client):
        assert ask(client, QUESTION, adapter="sea@1")["answer"] == before["answer"]


@pytest.mark.long
def test_a_server_that_was_killed_while_it_stored_an_adapter_leaves_nothing_that_is_served(
    shared: Shared, tmp_path: Path
) -> None:
    lora = write_lora(tmp_path / "lora").folder
    with running(tmp_path / "data", **shared.settings) as (process, client):
        assert upload(client, "sea", lora).status_code == 201
        whole = shared.s3.objects(shared.bucket)
        [tenant_id] = {key.split("/")[2] for key in shared.weights()}
        process.kill()
        process.wait()
    # What a death between the objects and the registry's state leaves.
    shared.s3.put(shared.bucket, f"lorebase/tenants/{tenant_id}/{'f' * 32}/adapter_config.json", b"{}")
    with running(tmp_path / "data", **shared.settings) as (_, client):
        assert [each["version"] for each in client.get("/adapters/sea").json()["versions"]] == [1]
        assert shared.s3.objects(shared.bucket) == whole
