"""What every response tells browsers, errors and preflights too; who else's pages may call; and TLS by itself."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from app.local_server import LocalServer, free_port, local_server
from app.response_headers import DEFAULTS, ResponseHeaders
from app.server import uvicorn_config
from app.settings import Settings

ORIGIN = "https://intranet.example.com"


@pytest.mark.e2e
def test_every_response_carries_the_safe_headers_errors_too(server: LocalServer, tenant: httpx.Client) -> None:
    stranger = httpx.Client(base_url=server.url)
    answers = {
        200: tenant.get("/documents"),
        401: stranger.get("/documents"),
        404: tenant.get("/nowhere"),
        405: tenant.patch("/documents"),
        413: tenant.post("/ingest", content=b"x" * 5 * 1024**2),
        422: tenant.post("/ask", json={}),
        415: tenant.post("/ingest", content=b"x"),
    }
    for status, response in answers.items():
        assert response.status_code == status, response.text
        for name, value in DEFAULTS.items():
            assert response.headers[name] == value, (status, name)
    page = stranger.get("/")
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert {"referrer-policy", "x-frame-options", "x-content-type-options"} <= set(page.headers)
    assert "strict-transport-security" not in page.headers


@pytest.mark.e2e
def test_no_other_origin_is_allowed_unless_set(server: LocalServer) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(server.url + "/ask", headers=asked)
    assert preflight.status_code in (401, 405)
    for response in (preflight, httpx.get(server.url + "/livez", headers={"Origin": ORIGIN})):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def open_to_one_origin() -> Iterator[LocalServer]:
    with local_server(environment={"LOREBASE_CORS_ORIGINS": f"{ORIGIN}, http://localhost:3000"}) as running:
        yield running


@pytest.mark.e2e
def test_an_allowed_origin_may_call_with_a_key_and_read_errors(open_to_one_origin: LocalServer) -> None:
    url = open_to_one_origin.url
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    preflight = httpx.options(url + "/ask", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert preflight.headers["x-content-type-options"] == "nosniff"
    refused = httpx.get(url + "/documents", headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    assert "access-control-allow-credentials" not in refused.headers
    key = {"Authorization": f"Bearer {open_to_one_origin.default_key}"}
    answered = httpx.get(url + "/documents", headers={"Origin": "http://localhost:3000", **key})
    assert answered.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "x-request-id" in answered.headers["access-control-expose-headers"].lower()
    other = {"Origin": "https://evil.example.com", **key}
    assert "access-control-allow-origin" not in httpx.get(url + "/documents", headers=other).headers
    assert httpx.options(url + "/ask", headers={**asked, "Origin": "https://evil.example.com"}).status_code == 400


@pytest.mark.parametrize("origins", ["*", "intranet.example.com", "https://a.example.com/path", "https://a b"])
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=origins)


def test_tls_needs_both_files(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="go together"):
        Settings(tls_certificate=tmp_path / "c.pem")
    with pytest.raises(ValidationError, match="there is no file"):
        Settings(tls_certificate=tmp_path / "c.pem", tls_key=tmp_path / "k.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_with_a_certificate_it_serves_https_and_says_to_stay_there(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    named = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *named, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    settings = Settings(tls_certificate=certificate, tls_key=key, port=free_port())
    assert settings.url.startswith("https://")

    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    config = uvicorn_config(ResponseHeaders(hello, tls=True), settings)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        trusted = ssl.create_default_context(cafile=str(certificate))
        response = httpx.get(f"https://localhost:{settings.port}/", verify=trusted)
        assert response.text == "https"
        assert response.headers["strict-transport-security"].startswith("max-age=")
    finally:
        server.should_exit = True
        thread.join(10)
