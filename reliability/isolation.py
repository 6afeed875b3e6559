"""No tenant reaches anything of another: every place of every route where a string may stand, with the other's ids.

Three tenants: one that owns things full of secret words; one that sends the owner's ids; one that sends ids nobody has,
in the same order. Both must be answered alike, no byte of an answer may hold a secret, and the owner's things must be
as before. Routes, parameters and bodies come from the OpenAPI document: a new route is covered by itself, and one whose
ids or body are not understood here counts as failed.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.local_server import LocalServer
from reliability.openapi import Api, Operation, filled
from reliability.outcome import Outcome

_ADAPTER = Path(__file__).parent.parent / "examples" / "adapters" / "finance"
_SECRET = "secretword7f3a"
_HEX = re.compile(r"\b[0-9a-f]{32}\b")
_NUMBER = re.compile(r"\b\d+(\.\d+)?(e-?\d+)?\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.+Z-]+")
_OWN_KIND = {  # what a path parameter, by its name, is an id of
    "document_id": "document",
    "job_id": "job",
    "evaluation_id": "evaluation",
    "request_id": "request",
    "dataset": "dataset",
    "name": "name",
    "model": "name",
    "version": "version",
    "key_id": "key",
    "number": "version",
}
_MAKES_ONES_OWN = {  # a name in the path that need not be there
    ("put", "/templates/{name}"),
    ("post", "/adapters/{name}/versions"),
    ("post", "/adapters/{name}/train"),
}
_BODIES: dict[str, Any] = {  # that the schema alone does not tell
    "EvaluateRequest": {"questions": [{"question": "What is it?", "answers": ["it"]}]},
    "GateRequest": {"questions": [{"question": "What is it?", "answers": ["it"]}]},
    "ChatRequest": {"model": "base", "messages": [{"role": "user", "content": "What is it?"}]},
    "DeleteDocumentsRequest": {},
    "FeedbackRequest": {"request_id": "x", "rating": 1},
    "TrainRequest": {"dataset": "x"},
}
_SAID = ("query", "question", "text")  # words to search or read by: what is found differs with them
_TRIES = 300  # of each way, when times are compared


@dataclass(frozen=True)
class _Ids:
    """Ids of every kind, by kind, all of one owner, or of nobody."""

    by_kind: dict[str, str]

    @classmethod
    def of_nobody(cls, chance: random.Random) -> _Ids:
        kinds = ("document", "job", "evaluation", "request", "dataset", "chunk", "tenant", "key")
        made = {kind: f"{chance.getrandbits(128):032x}" for kind in kinds}
        return cls({**made, "chunk": f"{made['chunk']}-0", "name": "nobody-0f", "version": "1"})


def run(server: LocalServer, *, seed: int = 1, full: bool = True) -> Outcome:
    """Try every route; ``full`` puts ids of every kind in every place, else of a few kinds, and compares times."""
    outcome, chance = Outcome(), random.Random(seed)
    with httpx.Client(base_url=server.url, headers=_bearer(server.admin_key), timeout=60) as admin:
        owner, attacker, control = (_tenant(admin, server.url) for _ in range(3))
        with owner, attacker, control:
            ids, nobodys = _own_things(owner, admin), _Ids.of_nobody(chance)
            before = _everything(owner, ids)
            requests = list(_requests(Api(admin.get("/openapi.json").json()), outcome, chance, full))
            for operation, place, kind, request in requests:
                foreign, unknown = (
                    _answer(client, request, given, kind) for client, given in ((attacker, ids), (control, nobodys))
                )
                where = f"{operation} with another tenant's {kind} in {place}"
                in_work = foreign.startswith("202")  # a job may be further already
                compared = slice(3) if in_work or place.endswith(_SAID) else slice(None)
                outcome.check(foreign[compared] == unknown[compared], f"{where}: {foreign} instead of {unknown}")
                outcome.check(_SECRET not in foreign, f"{where}: the answer holds the owner's words")
                if place == "path" and (operation.method, operation.path) not in _MAKES_ONES_OWN:
                    fits = foreign.startswith(("404", "403"))
                    outcome.check(fits, f"{where}: not the answer of an unknown id: {foreign[:300]}")
            changed = [path for path, seen in _everything(owner, ids).items() if seen != before[path]]
            outcome.check(not changed, f"the owner's things were changed: {changed}")
            outcome.figures["routes"] = len({str(operation) for operation, *_ in requests})
            outcome.figures["requests"] = 2 * len(requests)
            if full:
                outcome.figures["time_told_auc"] = _told_by_time(attacker, ids, nobodys)
                told = abs(outcome.figures["time_told_auc"] - 0.5)
                outcome.check(told < 0.1, f"the time of an answer tells a foreign id from an unknown one: {told}")
    return outcome


def _requests(api: Api, outcome: Outcome, chance: random.Random, full: bool) -> Any:
    """Every operation × place × kind of id: (operation, place, kind, what to send, with ``{kind}`` for an id)."""
    kinds = ["document", "job", "evaluation", "request", "dataset", "chunk", "tenant", "key", "name"]
    # What makes a thing of the caller's own under a name comes last: until then nobody but the owner has one.
    for operation in sorted(api.operations(), key=lambda each: (each.method, each.path) in _MAKES_ONES_OWN):
        example = _example(api, operation)
        placed = {name: _OWN_KIND.get(name, "tenant") for name in operation.parameters["path"]}
        strange = [name for name in placed if name not in _OWN_KIND and not operation.path.startswith("/tenants/")]
        outcome.check(not strange, f"{operation}: nothing is known here of ids named {strange}; add them to this row")
        sent = {"method": operation.method, "path": operation.path, "ids": placed, "json": example, "query": {}}
        if placed:
            yield operation, "path", next(iter(placed.values())), sent
            for kind in kinds if full else ():
                if "version" not in placed.values():
                    yield operation, "path", kind, {**sent, "ids": dict.fromkeys(placed, kind)}
        slots = [(f"query {n}", {**sent, "query": {n: "{}"}}) for n in operation.parameters["query"]]
        slots += [(f"header {n}", {**sent, "header": n}) for n in operation.parameters["header"]]
        if operation.body is not None:
            found = api.string_slots(operation.body, example)
            slots += [(f"body {name}", {**sent, "json": body}) for name, body, _ in found]
        for place, request in slots:
            for kind in kinds if full else chance.sample(kinds, 3):
                yield operation, place, kind, request


def _example(api: Api, operation: Operation) -> Any:
    if operation.body is None:
        return None
    name = str(operation.body.get("$ref", "")).rpartition("/")[2]
    return _BODIES[name] if name in _BODIES else api.example(operation.body)


def _answer(client: httpx.Client, request: dict[str, Any], ids: _Ids, kind: str) -> str:
    """Status, kind and body of an answer, without what differs between any two requests."""
    given = ids.by_kind[kind]
    path = request["path"].format(**{name: ids.by_kind[each] for name, each in request["ids"].items()})
    response = client.request(
        request["method"],
        path,
        params=filled(request["query"], given),
        json=filled(request["json"], given),
        headers={request["header"]: given} if "header" in request else {},
    )
    head = f"{response.status_code} {response.headers.get('content-type', '')}"
    text = response.text
    if _SECRET in text or _SECRET in str(response.headers):
        return f"{head} {text}"
    text = text.replace(response.headers["x-request-id"], "#")
    for each in sorted(ids.by_kind.values(), key=len, reverse=True):
        text = text.replace(each, "·") if len(each) > 4 else text
    return f"{head} {_NUMBER.sub('0', _TIME.sub('time', _HEX.sub('#', text)))}"


def _own_things(owner: httpx.Client, admin: httpx.Client) -> _Ids:
    """One thing of every kind, full of secret words."""
    text = f"The {_SECRET} of the harbour is {_SECRET}."
    document = {"title": f"{_SECRET} title", "text": text, "metadata": {"kind": _SECRET}}
    sent = owner.post("/ingest", params={"wait": "true"}, json={"documents": [document]}).raise_for_status().json()
    document_id = sent["documents"][0]["id"]
    chunk = owner.get(f"/documents/{document_id}/chunks").json()["chunks"][0]["id"]
    name = f"owned-{uuid.uuid4().hex[:8]}"
    files = [("files", (f, (_ADAPTER / f).read_bytes())) for f in ("adapter_config.json", "adapter_model.safetensors")]
    owner.post(f"/adapters/{name}/versions", files=files).raise_for_status()
    owner.post(f"/adapters/{name}/promote", json={"version": 1}).raise_for_status()
    owner.put(f"/templates/{name}", json={"system": f"Say {_SECRET}."}).raise_for_status()
    line = json.dumps({"question": f"Where is {_SECRET}?", "answer": _SECRET}).encode()
    made = owner.post("/datasets", files={"file": ("set.jsonl", line)}).raise_for_status().json()
    asked = {"questions": [{"question": f"What is {_SECRET}?", "answers": [_SECRET]}]}
    evaluation = owner.post("/evaluate", params={"wait": "true"}, json=asked).raise_for_status().json()
    answer = owner.post("/ask", json={"question": f"What is the {_SECRET}?"}).raise_for_status().json()
    listed = admin.get("/tenants").json()["tenants"]
    return _Ids(
        {
            "document": document_id,
            "job": sent["job_id"],
            "evaluation": evaluation["id"],
            "request": answer["request_id"],
            "dataset": made["id"],
            "chunk": chunk,
            "tenant": next(t["id"] for t in listed if t["name"] == owner.headers["x-name"]),
            "key": owner.get("/key").json()["key_id"],
            "name": name,
            "version": "1",
        }
    )


def _everything(owner: httpx.Client, ids: _Ids) -> dict[str, str]:
    """What the owner sees of its own."""
    kinds = ids.by_kind
    paths = (
        "/documents", f"/documents/{kinds['document']}", f"/documents/{kinds['document']}/text", "/jobs", "/templates",
        f"/templates/{kinds['name']}", "/datasets", "/evaluations",
        f"/evaluations/{kinds['evaluation']}", "/feedback", "/policy", "/splitting",
    )  # fmt: skip
    seen = {path: owner.get(path).raise_for_status().text for path in paths}
    adapter = owner.get(f"/adapters/{kinds['name']}").raise_for_status().json()
    return {**seen, "adapter": str([adapter["active"], [version["sha256"] for version in adapter["versions"]]])}


def _told_by_time(attacker: httpx.Client, ids: _Ids, nobodys: _Ids) -> float:
    """How well the time of an answer tells a foreign document from an unknown one: 0.5 is not at all, 1 always."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * _TRIES):
        foreign = number % 2 == 0
        given = (ids if foreign else nobodys).by_kind["document"]
        began = time.perf_counter()
        attacker.get(f"/documents/{given}")
        times[foreign].append(time.perf_counter() - began)
    return round(statistics.mean((a > b) + (a == b) / 2 for a in times[True] for b in times[False]), 3)


def _tenant(admin: httpx.Client, url: str) -> httpx.Client:
    name = f"isolation {uuid.uuid4().hex[:8]}"
    key = admin.post("/tenants", json={"name": name}).raise_for_status().json()["api_key"]
    return httpx.Client(base_url=url, headers={**_bearer(key), "x-name": name}, timeout=60)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
