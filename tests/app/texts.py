"""Documents and requests the HTTP tests use again and again."""

from __future__ import annotations

from typing import Any

import httpx

LIGHTHOUSE = (
    "The lighthouse at Skerry Point was built in 1874 by the engineer Anna Brandt. It stands 31 metres tall.\n\n"
    "Its lamp was turned by a clockwork until 1962. Since then an electric motor turns it. 🗼 The keeper's house "
    "is a museum today."
)


def ingest(client: httpx.Client, *texts: str, **fields: Any) -> list[dict[str, Any]]:
    """Ingest texts and wait; the documents as the response lists them."""
    documents = [{"title": text.split(".")[0][:40], "text": text, **fields} for text in texts]
    response = client.post("/ingest", params={"wait": "true"}, json={"documents": documents})
    assert response.status_code == 200, response.text
    listed: list[dict[str, Any]] = response.json()["documents"]
    return listed


def ask(client: httpx.Client, question: str, adapter: str | None = None, **fields: Any) -> dict[str, Any]:
    """Ask and expect an answer."""
    response = client.post(
        "/ask", json={"question": question, **fields}, headers={"X-Adapter": adapter} if adapter else {}
    )
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


def assert_problem(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The response is problem JSON of this status; its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["detail"]
    assert "Traceback" not in response.text
    if code is not None:
        assert body["code"] == code
    return body
