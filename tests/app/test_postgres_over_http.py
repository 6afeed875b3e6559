"""A service on PostgreSQL, as a real server process: what outlives it, and what it says while there is no database.

The rest of the HTTP tests run on it too: `LOREBASE_TEST_STORAGE=postgresql pytest -m e2e tests/app`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from app.local_server import free_port
from app.tenants import CENTRAL_MIGRATIONS
from ingest import SqliteDatabase
from tests.adapters.reader_lora import write_lora
from tests.app.test_isolation import upload
from tests.app.test_restart import running
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.databases import fresh_database, postgres_process

pytestmark = pytest.mark.e2e
ADMIN = "the-admin-key-of-these-tests"


@pytest.fixture
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


def settled(client: httpx.Client, job_id: str) -> str:
    deadline = time.monotonic() + 60
    while (state := client.get(f"/jobs/{job_id}").json()["state"]) in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return str(state)


def serve(data: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *(arguments or ("serve",))],
        env={**os.environ, "LOREBASE_DATA": str(data), "LOREBASE_PORT": str(free_port()), **settings},
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )


def test_a_tenants_life_survives_kill_9_and_a_restart(tmp_path: Path, url: str) -> None:
    settings = {"LOREBASE_DATABASE_URL": url, "LOREBASE_ADMIN_KEY": ADMIN}
    with running(tmp_path, **settings) as (process, client):
        assert client.get("/readyz").json()["storage"].startswith("PostgreSQL")
        replaced = ingest(client, "The old harbour was opened in 1850.")[0]["id"]
        deleted = ingest(client, "The zebrafinch sings at dawn.")[0]["id"]
        ingest(client, LIGHTHOUSE)
        new = client.put(f"/documents/{replaced}", json={"text": "The new harbour was opened in 1951."})
        assert settled(client, new.json()["job_id"]) == "succeeded"
        assert ask(client, "When was the new harbour opened?")["answer"] == "1951"
        assert client.delete(f"/documents/{deleted}").status_code == 204
        found = client.post("/search", json={"query": "zebrafinch"}).json()["passages"]
        assert all("zebrafinch" not in passage["text"] for passage in found)
        answered = ask(client, "When was the lighthouse built?")
        assert (answered["answer"], answered["citations"][0]["quote"] in LIGHTHOUSE) == ("1874", True)
        rated = client.post("/feedback", json={"request_id": answered["request_id"], "rating": 1})
        assert rated.status_code == 204
        assert upload(client, "sea", write_lora(tmp_path / "lora").folder).status_code == 201
        assert client.post("/adapters/sea/promote", json={"version": 1}).status_code == 200
        evaluation = client.post(
            "/evaluate", json={"questions": [{"question": "When was the lighthouse built?", "answers": ["1874"]}]}
        )
        assert evaluation.status_code == 202, evaluation.text
        assert settled(client, evaluation.json()["job_id"]) == "succeeded"
        documents = [{"text": f"House {i} has the number {i * 7 + 1000}. " + "It is red. " * 200} for i in range(20)]
        acknowledged = client.post("/ingest", json={"documents": documents})
        assert acknowledged.status_code == 202
        os.kill(process.pid, signal.SIGKILL)
    with running(tmp_path, **settings) as (process, client):
        assert settled(client, acknowledged.json()["job_id"]) == "succeeded"
        listed = client.get("/documents", params={"limit": 100}).json()
        assert (listed["total"], {each["status"] for each in listed["documents"]}) == (22, {"ready"})
        found = checks(serve(tmp_path, "doctor", "--json", **settings))
        assert (found["database"][0], "served now" in found["database"][1]) == ("ok", True)
        assert found["documents"] == ("ok", "22 ready")
        answered = ask(client, "When was the lighthouse built?", adapter="sea")
        assert (answered["answer"], answered["adapter"]["version"]) == ("1874", 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with running(tmp_path, **settings) as (_, client):
        assert ask(client, "When was the new harbour opened?")["answer"] == "1951"
        admin = {"Authorization": f"Bearer {ADMIN}"}
        (tenant,) = client.get("/tenants", headers=admin).json()["tenants"]
        for path in ("/backup", f"/tenants/{tenant['id']}/export"):
            assert "pg_dump" in assert_problem(client.get(path, headers=admin), 409, "backup_elsewhere")["detail"]
        assert client.delete(f"/tenants/{tenant['id']}", headers=admin).status_code == 204
    assert left(url, tenant["id"]) == {}
    assert not (tmp_path / "tenants" / tenant["id"]).exists()
    assert not list(tmp_path.rglob("*.db"))


def left(url: str, tenant_id: str) -> dict[str, int]:
    """How many rows of a tenant are left, by table."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT set_config('lorebase.tenant', %s, true)", (tenant_id,))
        tables = connection.execute(
            "SELECT relname FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attname = 'tenant' "
            "WHERE relkind = 'r'"
        ).fetchall()
        assert len(tables) > 30
        counts = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone() for (table,) in tables}
    return {table: count[0] for table, count in counts.items() if count is not None and count[0]}


@pytest.mark.long
def test_while_the_database_is_down_there_is_503_and_afterwards_everything_is_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    place = tmp_path / "postgresql"
    with postgres_process(place) as superuser, fresh_database(superuser) as url:
        with (
            running(tmp_path / "data", LOREBASE_DATABASE_URL=url) as (process, client),
            running(tmp_path / "data", LOREBASE_DATABASE_URL=url) as (_, replica),
        ):
            ingest(client, LIGHTHOUSE)
            answered = ask(client, "When was the lighthouse built?")
            stop(place)
            found: list[httpx.Response] = []

            def request(method: str, path: str, **sent: object) -> None:
                found.append(client.request(method, path, **sent))  # type: ignore[arg-type]

            asked = {"json": {"question": "When was the lighthouse built?"}}
            threads = [
                threading.Thread(target=request, args=each[:2], kwargs=each[2])
                for each in (("POST", "/ask", asked), ("GET", "/documents", {}), ("GET", "/readyz", {}))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {response.status_code for response in found} == {503}
            for response in found:
                if response.url.path != "/readyz":
                    assert assert_problem(response, 503, "database_unavailable")
                    assert response.headers["retry-after"]
            start(place)
            deadline = time.monotonic() + 30
            while any(each.get("/readyz").status_code != 200 for each in (client, replica)):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            for each in (client, replica):
                assert ask(each, "When was the lighthouse built?")["answer"] == "1874"
            assert ingest(replica, "The new harbour was opened in 1951.")[0]["status"] == "ready"
            assert ask(client, "When was the new harbour opened?")["answer"] == "1951"
            assert client.put("/policy", json={"keep_answers": False}).status_code == 200
            while replica.get("/policy").json()["keep_answers"]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert client.put("/policy", json={"keep_answers": True}).status_code == 200
            rated = client.post("/feedback", json={"request_id": answered["request_id"], "rating": -1})
            assert rated.status_code == 204
            assert process.poll() is None
        stop(place)
        refused = serve(tmp_path / "data", LOREBASE_DATABASE_URL=url)
        assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
        assert "The database cannot be reached" in refused.stderr
        start(place)


def stop(place: Path) -> None:
    from pgserver._commands import pg_ctl

    pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=place, user=owner(place))


def start(place: Path) -> None:
    from pgserver._commands import pg_ctl

    options = ("-o", '-h ""', "-o", f"-k {place}", "-l", str(place / "log"))
    pg_ctl(["-w", *options, "start"], pgdata=place, user=owner(place))


def owner(place: Path) -> str | None:
    return place.owner() if os.geteuid() == 0 else None


def test_a_folder_and_a_database_that_do_not_belong_together_are_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "files" / "tenants").mkdir(parents=True)
    SqliteDatabase(tmp_path / "files" / "lorebase.db", CENTRAL_MIGRATIONS).close()
    told = serve(tmp_path / "files", LOREBASE_DATABASE_URL=url)
    assert (told.returncode, "has rows of its own" in told.stderr) == (1, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "postgresql.json").write_text(json.dumps({"database": "another"}))
    told = serve(tmp_path / "other", LOREBASE_DATABASE_URL=url)
    assert (told.returncode, "belongs to another PostgreSQL database" in told.stderr) == (1, True)
    told = serve(tmp_path / "other")
    assert (told.returncode, "set LOREBASE_DATABASE_URL" in told.stderr) == (1, True)
    assert (tmp_path / "files" / "tenants").is_dir()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://lorebase@127.0.0.1:1/lorebase", "cannot be reached"),
        ("mysql://localhost/x", "LOREBASE_DATABASE_URL: it begins with postgresql://"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_words(tmp_path: Path, url: str, said: str) -> None:
    for arguments in (("serve",), ("doctor",)):
        told = serve(tmp_path, *arguments, LOREBASE_DATABASE_URL=url)
        assert told.returncode != 0
        assert said in " ".join((told.stdout + told.stderr).split())
        assert "Traceback" not in told.stderr


def test_doctor_looks_at_a_database_before_it_is_served(tmp_path: Path, url: str, postgres_superuser: str) -> None:
    found = serve(tmp_path, "doctor", "--json", LOREBASE_DATABASE_URL=url)
    assert checks(found)["database"][0] == "ok"
    assert "the first start makes them" in checks(found)["database"][1]
    found = serve(tmp_path, "doctor", "--json", LOREBASE_DATABASE_URL=as_url(postgres_superuser))
    assert checks(found)["database"][0] == "wrong"
    assert "superuser" in checks(found)["database"][1]


def as_url(conninfo: str) -> str:
    return conninfo if conninfo.startswith("postgresql://") else f"postgresql:///?{conninfo}"


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    return {each["name"]: (each["state"], each["detail"]) for each in json.loads(done.stdout)["checks"]}
