"""What the OpenAPI document promises holds for whatever is sent: no 500, no hang, and every response as described.

schemathesis makes requests that fit the document and requests that do not; where a path takes an id, half of them name
a thing that is there. Every error must be problem JSON.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.local_server import LocalServer
from reliability.outcome import Outcome

_CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
_LONGEST_SECONDS = 30.0
_REFUSALS = (503, 507)  # of a service that is at its limits, and says so


def run(server: LocalServer, *, seed: int = 1, examples: int = 100) -> Outcome:
    """Send every operation so many requests that fit and as many that do not."""
    outcome = Outcome()
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    admin, tenant = server.admin_key, _tenant(server)
    own = _own_ids(server, tenant)
    operations = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # a document that is none ends the row
        operations += 1
        key = _key_of(server.url, operation, admin, tenant)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                _try(operation, mode, server, key, own, outcome, seed, examples)
            except Exception as error:
                if "Cannot generate" not in str(error) and "negative" not in str(error):
                    raise
    outcome.figures["operations"] = operations
    return outcome


def _try(
    operation: Any,
    mode: GenerationMode,
    server: LocalServer,
    key: str,
    own: dict[str, list[str]],
    outcome: Outcome,
    seed: int,
    examples: int,
) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), choices=st.data())
    def one(case: Any, choices: Any) -> None:
        for name in list(case.path_parameters or {}):
            if name in own and choices.draw(st.booleans()):
                case.path_parameters[name] = choices.draw(st.sampled_from(own[name]))
        began = time.perf_counter()
        try:
            response = case.call(
                base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=_LONGEST_SECONDS
            )
        except OSError as error:  # what requests raises is one
            outcome.check(holds=False, reason=f"{operation.label}: no response: {error!r}"[:300])
            return
        outcome.largest("slowest_s", time.perf_counter() - began)
        try:
            case.validate_response(response, checks=_CHECKS)
        except FailureGroup as group:
            refused = response.status_code in _REFUSALS and "retry-after" in response.headers
            reasons = "; ".join(str(each) for each in group.exceptions)
            outcome.check(refused, f"{operation.label} → {response.status_code}: {reasons} {case.as_curl_command()}")
            return
        is_problem = response.headers.get("content-type") == ["application/problem+json"]
        wrong = response.status_code >= 400 and not is_problem and not operation.path.endswith("/readyz")
        outcome.check(
            not wrong, f"{operation.label} → {response.status_code} is no problem: {response.content[:200]!r}"
        )

    one()


def _key_of(url: str, operation: Any, admin: str, tenant: str) -> str:
    """The key that opens an operation: the tenant's, unless it is the admin's."""
    path = re.sub(r"{\w+}", "1", operation.path)
    response = httpx.request(operation.method, url + path, headers={"Authorization": f"Bearer {tenant}"}, timeout=60)
    return admin if response.status_code == 403 else tenant


def _tenant(server: LocalServer) -> str:
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    made = httpx.post(f"{server.url}/tenants", json={"name": f"contract {uuid.uuid4().hex[:8]}"}, headers=headers)
    return str(made.raise_for_status().json()["api_key"])


def _own_ids(server: LocalServer, key: str) -> dict[str, list[str]]:
    """Things of the caller's own to name in paths."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        texts = [{"title": f"t{n}", "text": f"The lamp number {n} stands in room {n}."} for n in range(5)]
        sent = client.post("/ingest", params={"wait": "true"}, json={"documents": texts}).raise_for_status().json()
        client.put("/templates/own", json={}).raise_for_status()
        line = b'{"question": "Where?", "answer": "in room 1"}'
        made = client.post("/datasets", files={"file": ("set.jsonl", line)}).raise_for_status().json()
        asked = {"questions": [{"question": "Where is lamp number 1?", "answers": ["room 1"]}]}
        evaluation = client.post("/evaluate", params={"wait": "true"}, json=asked).raise_for_status().json()
        answer = client.post("/ask", json={"question": "Where is lamp number 1?"}).raise_for_status().json()
    return {
        "document_id": [each["id"] for each in sent["documents"]],
        "job_id": [sent["job_id"]],
        "dataset": [made["id"]],
        "evaluation_id": [evaluation["id"]],
        "request_id": [answer["request_id"]],
        "name": ["own"],
        "model": ["base"],
    }
