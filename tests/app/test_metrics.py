"""What Prometheus reads: guarded, in its own format, with bounded labels, and true to what was done."""

from __future__ import annotations

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.local_server import LocalServer
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.conftest import METRICS_KEY

pytestmark = pytest.mark.e2e


def scrape(server: LocalServer) -> dict[str, float]:
    """Every sample by name and labels, as written."""
    response = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_need_the_admin_key_or_their_own(
    server: LocalServer, admin: httpx.Client, tenant: httpx.Client
) -> None:
    assert_problem(httpx.get(f"{server.url}/metrics"), 401)
    assert_problem(tenant.get("/metrics"), 403, "forbidden")
    assert admin.get("/metrics").status_code == 200
    assert scrape(server)["lorebase_ready"] == 1
    with_metrics_key = {"Authorization": f"Bearer {METRICS_KEY}"}
    for path in ("/tenants", "/documents"):
        assert_problem(httpx.get(server.url + path, headers=with_metrics_key), 401)


def test_requests_questions_stages_and_tokens_are_counted(server: LocalServer, tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    before = scrape(server)
    used = ask(tenant, "When was the lighthouse built?")["usage"]
    ask(tenant, "Which vitamin is found in oranges?")
    after = scrape(server)

    def gained(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert gained("lorebase_http_requests_total method=POST route=/ask status=200") == 2
    assert gained("lorebase_http_request_seconds_count route=/ask") == 2
    assert gained("lorebase_asks_total outcome=answered") == 1
    assert gained("lorebase_asks_total outcome=abstained") == 1
    for stage, count in {"retrieve": 2, "queue": 2, "first_token": 1, "generate": 2, "total": 2}.items():
        assert gained(f"lorebase_ask_stage_seconds_count stage={stage}") == count
    assert gained("lorebase_tokens_total kind=prompt") > used["prompt_tokens"]
    assert gained("lorebase_tokens_total kind=completion") == used["completion_tokens"]
    assert gained("lorebase_engine_steps_total") >= 1
    assert after["lorebase_engine_rows state=waiting"] == after["lorebase_engine_rows state=running"] == 0


def test_labels_hold_templates_and_neither_paths_nor_names(server: LocalServer, tenant: httpx.Client) -> None:
    tenant.get("/documents/a-path-of-my-own")
    tenant.get("/an-address-of-my-own")
    tenant.request("LOCK", "/documents")
    names = set(scrape(server))
    assert "lorebase_http_requests_total method=GET route=/documents/{document_id} status=404" in names
    assert "lorebase_http_requests_total method=GET route=none status=404" in names
    assert any(name.startswith("lorebase_http_requests_total method=OTHER") for name in names)
    assert not [name for name in names if re.search("of-my-own|LOCK|tenant ", name)]
