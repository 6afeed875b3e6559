"""`LOREBASE_VECTOR_SEARCH=database` as real server processes: the same answers, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.test_postgres_over_http import checks, serve
from tests.app.test_restart import running
from tests.app.texts import LIGHTHOUSE, ask, ingest
from tests.databases import fresh_database

pytestmark = pytest.mark.e2e


def test_a_process_that_searches_in_the_database_finds_what_one_that_searches_in_memory_finds(
    tmp_path: Path, postgres_superuser: str
) -> None:
    with fresh_database(postgres_superuser, extension=True) as url:
        settings = {"LOREBASE_DATABASE_URL": url}
        with running(tmp_path, **settings) as (_, in_memory):
            ingest(in_memory, LIGHTHOUSE)
            # Others may go over to it one after another: what was there before is found, and what each adds.
            with running(tmp_path, LOREBASE_VECTOR_SEARCH="database", **settings) as (_, in_database):
                deleted = ingest(in_database, "The zebrafinch sings at dawn.")[0]["id"]
                ingest(in_memory, "The new harbour was opened in 1951.")
                for question, answer in (
                    ("When was the lighthouse built?", "1874"),
                    ("When was the harbour opened?", "1951"),
                ):
                    found = [ask(client, question) for client in (in_memory, in_database)]
                    assert [each["answer"] for each in found] == [answer, answer]
                    assert len({str([p["chunk_id"] for p in each["passages"]]) for each in found}) == 1
                assert in_memory.delete(f"/documents/{deleted}").status_code == 204
                left = in_database.post("/search", json={"query": "zebrafinch"}).json()["passages"]
                assert len(left) == 2
                assert all("zebrafinch" not in passage["text"] for passage in left)


def test_without_the_extension_the_start_is_refused_and_doctor_names_it(
    tmp_path: Path, postgres_superuser: str
) -> None:
    with fresh_database(postgres_superuser) as url:
        settings = {"LOREBASE_DATABASE_URL": url, "LOREBASE_VECTOR_SEARCH": "database"}
        refused = serve(tmp_path, **settings)
        assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
        assert "have a superuser run CREATE EXTENSION vector" in " ".join(refused.stderr.split())
        found = checks(serve(tmp_path, "doctor", "--json", **settings))
        assert found["vector search"][0] == "wrong"
        assert "CREATE EXTENSION vector" in found["vector search"][1]


def test_without_a_database_the_setting_is_refused(tmp_path: Path) -> None:
    refused = serve(tmp_path, LOREBASE_VECTOR_SEARCH="database")
    assert (refused.returncode == 0, "Traceback" in refused.stderr) == (False, False)
    assert "LOREBASE_VECTOR_SEARCH=database needs LOREBASE_DATABASE_URL" in " ".join(refused.stderr.split())
