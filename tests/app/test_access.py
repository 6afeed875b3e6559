"""Who may ask, decided before a body is read; and how large a body may be."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from app.local_server import LocalServer
from tests.app.texts import assert_problem

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json"])
def test_probes_and_docs_need_no_key(server: LocalServer, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer wrong-key-of-some-length", "Basic abc", "Bearer"])
def test_without_a_known_key_nothing_is_answered(server: LocalServer, header: str | None) -> None:
    response = httpx.get(server.url + "/documents", headers={"Authorization": header} if header else {})
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_unknown_addresses_tell_nothing_to_strangers(server: LocalServer, tenant: httpx.Client) -> None:
    assert_problem(httpx.get(server.url + "/nowhere"), 401)
    assert_problem(tenant.get("/nowhere"), 404)


def test_tenant_keys_do_not_open_admin_routes_nor_admin_keys_tenant_routes(
    tenant: httpx.Client, admin: httpx.Client
) -> None:
    assert_problem(tenant.post("/tenants", json={"name": "x"}), 403)
    assert_problem(tenant.get("/tenants"), 403)
    assert_problem(admin.get("/documents"), 403)


def test_a_stranger_is_refused_before_the_body_is_sent(server: LocalServer) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_a_declared_body_over_the_limit_is_refused(tenant: httpx.Client) -> None:
    response = tenant.post("/ingest", content=b"x" * 5 * 1024**2, headers={"Content-Type": "application/json"})
    assert "4 MiB" in assert_problem(response, 413, "too_large")["detail"]


def test_a_chunked_body_over_the_limit_is_refused(tenant: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 64 * 1024

    for kind in ("application/json", "multipart/form-data; boundary=b"):
        response = tenant.post("/ingest", content=endless(), headers={"Content-Type": kind})
        assert response.status_code in (400, 413), response.text
    response = tenant.post("/ingest", content=endless(), headers={"Content-Type": "application/json"})
    assert_problem(response, 413, "too_large")


def test_the_openapi_document_is_complete(server: LocalServer) -> None:
    document = httpx.get(server.url + "/openapi.json").json()
    wanted = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert wanted <= set(document["components"]["schemas"])
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_response_carries_its_request_id(server: LocalServer, tenant: httpx.Client) -> None:
    ids = {tenant.get(path).headers["x-request-id"] for path in ("/documents", "/nowhere", "/livez")}
    assert len(ids) == 3
    problem = tenant.get("/nowhere")
    assert problem.json()["request_id"] == problem.headers["x-request-id"]


def test_a_clients_own_request_id_is_kept_where_it_is_well_formed(tenant: httpx.Client) -> None:
    problem = tenant.get("/nowhere", headers={"X-Request-ID": "gateway-7.a_b"})
    assert problem.headers["x-request-id"] == problem.json()["request_id"] == "gateway-7.a_b"
    for bad in ("x" * 65, "a b", "ä", "a/b", ""):
        made = tenant.get("/nowhere", headers={"X-Request-ID": bad.encode()}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_a_revoked_key_no_longer_opens_anything(server: LocalServer, admin: httpx.Client) -> None:
    made = admin.post("/tenants", json={"name": "short-lived"}).json()
    second = admin.post(f"/tenants/{made['id']}/keys").json()
    headers = {"Authorization": f"Bearer {second['api_key']}"}
    assert httpx.get(server.url + "/documents", headers=headers).status_code == 200
    assert admin.delete(f"/tenants/{made['id']}/keys/{second['id']}").status_code == 204
    assert_problem(httpx.get(server.url + "/documents", headers=headers), 401)
    first = {"Authorization": f"Bearer {made['api_key']}"}
    assert httpx.get(server.url + "/documents", headers=first).status_code == 200
