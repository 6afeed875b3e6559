"""Keys of a tenant: made, listed, rotated without a gap, revoked; each opens what its scopes and collections say."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer
from app.scopes import RULES
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTION = "Who built the lighthouse at Skerry Point?"


@dataclass
class Tenant:
    """A tenant made for a test, and clients on keys of it."""

    id: str
    client: httpx.Client
    open: Callable[[str], httpx.Client]
    made: dict[str, str] = field(default_factory=dict)

    def key(self, *scopes: str, **terms: Any) -> httpx.Client:
        """A client on a new key of these scopes; its id is in ``made``."""
        body = {"scopes": list(scopes), **terms} if scopes else terms
        response = self.client.post(f"/tenants/{self.id}/keys", json=body)
        assert response.status_code == 201, response.text
        client = self.open(response.json()["api_key"])
        self.made[client.headers["authorization"]] = response.json()["id"]
        return client

    def id_of(self, client: httpx.Client) -> str:
        return self.made[client.headers["authorization"]]


@pytest.fixture
def owner(server: LocalServer, admin: httpx.Client) -> Iterator[Tenant]:
    with ExitStack() as clients:

        def open_client(key: str) -> httpx.Client:
            headers = {"Authorization": f"Bearer {key}"}
            return clients.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=60))

        made = admin.post("/tenants", json={"name": f"owner {uuid.uuid4().hex[:8]}"}).json()
        yield Tenant(made["id"], open_client(made["api_key"]), open_client)


def test_a_key_opens_what_its_scopes_are_for_and_names_the_one_that_is_missing(owner: Tenant) -> None:
    ingest(owner.client, LIGHTHOUSE)
    asker, writer, trainer = (owner.key(scope) for scope in ("ask", "ingest", "train"))
    assert "Anna Brandt" in ask(asker, QUESTION)["answer"]
    assert ingest(writer, "The harbour bell was cast in 1881.")[0]["status"] == "ready"
    assert trainer.get("/datasets").status_code == 200
    refused = assert_problem(asker.post("/ingest", json={"documents": [{"text": "x"}]}), 403, "missing_scope")
    assert refused["needs"] == ["ingest"]
    assert "ingest" in refused["detail"]
    assert assert_problem(writer.post("/ask", json={"question": "x"}), 403)["needs"] == ["ask"]
    assert assert_problem(trainer.get("/documents"), 403)["needs"] == ["ask", "ingest"]
    assert_problem(writer.get(f"/tenants/{owner.id}/keys"), 403, "missing_scope")
    assert_problem(owner.client.get("/tenants"), 403, "forbidden")


def test_no_route_answers_a_key_without_its_scope(owner: Tenant) -> None:
    keys: dict[str, httpx.Client] = {scope: owner.key(scope) for scope in ("ask", "ingest", "train")}
    tried = 0
    for route, rule in RULES.items():
        method, path = route.split(" ")
        for scope, client in keys.items():
            if rule.scopes and scope not in rule.scopes:
                response = client.request(method, path.replace(":path", "").format_map(_Filled()))
                assert response.status_code == 403, (route, scope, response.text)
                assert response.json()["code"] in ("missing_scope", "forbidden")
                tried += 1
    assert tried > 60


class _Filled(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1"


def test_keys_are_listed_without_themselves(owner: Tenant) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    owner.key("ask", name="the kiosk", collections=["public"], expires_at=later.isoformat())
    listed = owner.client.get(f"/tenants/{owner.id}/keys")
    first, kiosk = listed.json()["keys"]
    assert first["scopes"] == ["admin"]
    assert (kiosk["name"], kiosk["scopes"], kiosk["collections"]) == ("the kiosk", ["ask"], ["public"])
    assert datetime.fromisoformat(kiosk["expires_at"]) == later
    assert kiosk["revoked_at"] is None
    assert "lb_" not in listed.text


def test_the_list_tells_when_a_key_was_last_used(owner: Tenant) -> None:
    idle, busy = owner.key("ask", name="idle"), owner.key("ask", name="busy")
    busy.get("/documents")

    def last_uses() -> dict[str, str | None]:
        listed = owner.client.get(f"/tenants/{owner.id}/keys").json()["keys"]
        return {key["name"]: key["last_used_at"] for key in listed}

    deadline = time.monotonic() + 15
    while (told := last_uses())["busy"] is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert told["busy"] is not None
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["busy"])) < timedelta(minutes=2)
    assert told["idle"] is None
    assert owner.id_of(idle) != owner.id_of(busy)


def test_a_rotated_key_and_its_successor_both_work_until_the_overlap_ends(owner: Tenant) -> None:
    old = owner.key("ask", name="app")
    rotate = f"/tenants/{owner.id}/keys/{owner.id_of(old)}/rotate"
    made = owner.client.post(rotate, json={"overlap_seconds": 1.5}).json()
    new = owner.open(made["api_key"])
    assert made["replaces"] == owner.id_of(old)
    assert old.get("/documents").status_code == new.get("/documents").status_code == 200
    assert new.get("/key").json()["scopes"] == old.get("/key").json()["scopes"] == ["ask"]
    deadline = time.monotonic() + 10
    while (ended := old.get("/documents")).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_problem(ended, 401, "unauthorized")
    assert new.get("/documents").status_code == 200


def test_a_tenants_admin_key_manages_its_own_tenant_and_no_other(owner: Tenant, admin: httpx.Client) -> None:
    boss, short = owner.key("admin"), owner.key("ask")
    assert boss.delete(f"/tenants/{owner.id}/keys/{owner.id_of(short)}").status_code == 204
    assert_problem(short.get("/documents"), 401)
    assert_problem(boss.delete(f"/tenants/{owner.id}/keys/{owner.id_of(short)}"), 404)
    other = admin.post("/tenants", json={"name": uuid.uuid4().hex}).json()["id"]
    foreign = [boss.get(f"/tenants/{tenant}/keys") for tenant in (other, uuid.uuid4().hex)]
    bodies = [assert_problem(response, 404, "not_found") for response in foreign]
    assert bodies[0]["detail"] == bodies[1]["detail"]
    assert_problem(boss.post(f"/tenants/{other}/keys"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": []},
        {"scopes": ["operator"]},
        {"collections": ["a"]},
        {"scopes": ["train"], "collections": ["a"]},
        {"scopes": ["ask"], "collections": []},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2100-01-01T00:00:00"},
        {"name": "x" * 101},
    ],
)
def test_terms_that_do_not_fit_are_refused(owner: Tenant, body: dict[str, Any]) -> None:
    assert_problem(owner.client.post(f"/tenants/{owner.id}/keys", json=body), 422, "invalid_request")
    assert len(owner.client.get(f"/tenants/{owner.id}/keys").json()["keys"]) == 1


def test_a_key_for_a_collection_sees_and_changes_nothing_else(owner: Tenant) -> None:
    def send(client: httpx.Client, text: str, collection: str | None) -> httpx.Response:
        body = {"documents": [{"text": text}], **({"collection": collection} if collection else {})}
        return client.post("/ingest", params={"wait": "true"}, json=body)

    hidden = send(owner.client, f"The vault's word is heron. {LIGHTHOUSE}", "secret").json()
    kiosk = owner.key("ask", "ingest", collections=["public"])
    assert_problem(send(kiosk, "x", "secret"), 403, "collection_forbidden")
    own = send(kiosk, "The harbour bell was cast in 1881.", None).json()
    listed = kiosk.get("/documents").json()
    assert [(d["id"], d["collection"]) for d in listed["documents"]] == [(own["documents"][0]["id"], "public")]
    assert listed["total"] == 1

    found = kiosk.post("/search", json={"query": "What is the vault's word?", "top_k": 50})
    assert "heron" not in found.text
    assert len(found.json()["passages"]) == 1
    assert "heron" not in kiosk.post("/ask", json={"question": "What is the vault's word?", "min_confidence": 0}).text
    chat = {"model": "base", "messages": [{"role": "user", "content": "What is the vault's word?"}]}
    assert "heron" not in kiosk.post("/v1/chat/completions", json=chat).text
    for narrow in ({"collection": "secret"}, {"collection": "secret", "filter": {"x": 1}}):
        assert_problem(kiosk.post("/search", json={"query": "x", **narrow}), 403, "collection_forbidden")
        assert_problem(kiosk.post("/ask", json={"question": "x", **narrow}), 403, "collection_forbidden")

    document, job = hidden["documents"][0]["id"], hidden["job_id"]
    unknown = uuid.uuid4().hex
    for method, path in [
        ("GET", "/documents/{}"), ("GET", "/documents/{}/text"), ("GET", "/documents/{}/chunks"),
        ("GET", "/documents/{}/pages/1.png"), ("DELETE", "/documents/{}"), ("POST", "/documents/{}/retry"),
        ("PUT", "/documents/{}"), ("GET", "/jobs/{}"), ("GET", "/jobs/{}/events"), ("POST", "/jobs/{}/cancel"),
        ("POST", "/jobs/{}/retry"),
    ]:  # fmt: skip
        id_ = job if path.startswith("/jobs") else document
        foreign, missing = (kiosk.request(method, path.format(each)) for each in (id_, unknown))
        assert foreign.status_code == missing.status_code == 404, (method, path, foreign.text)
        assert foreign.json()["detail"] == missing.json()["detail"]
    assert kiosk.get(f"/jobs/{own['job_id']}").status_code == 200
    deleted = kiosk.post("/documents/delete", json={"ids": [document, own["documents"][0]["id"]]}).json()
    assert deleted == {"deleted": 1, "not_found": [document]}
    assert owner.client.get(f"/documents/{document}").status_code == 200
    assert_problem(kiosk.get("/jobs"), 403, "collection_key")


def test_a_key_for_two_collections_searches_both_and_their_filters_hold(owner: Tenant) -> None:
    for collection, word in (("a", "amber"), ("b", "birch"), ("c", "cedar")):
        body = {"documents": [{"text": f"The password is {word}.", "metadata": {"n": 1}}], "collection": collection}
        assert owner.client.post("/ingest", params={"wait": "true"}, json=body).status_code == 200
    both = owner.key("ask", collections=["a", "b"])
    found = both.post("/search", json={"query": "password", "filter": {"n": 1}, "top_k": 10}).text
    assert [word in found for word in ("amber", "birch", "cedar")] == [True, True, False]
    only = both.post("/search", json={"query": "password", "filter": {"n": 2}}).json()
    assert only["passages"] == []
    wide = {"or": [{"document.collection": "c"}, {"n": 1}]}
    assert "cedar" not in both.post("/search", json={"query": "password", "filter": wide, "top_k": 10}).text


def test_the_admin_has_keys_of_its_own_and_cannot_lock_itself_out(server: LocalServer, admin: httpx.Client) -> None:
    made = admin.post("/keys", json={"name": "second"}).json()
    second = {"Authorization": f"Bearer {made['api_key']}"}
    assert httpx.get(server.url + "/tenants", headers=second).status_code == 200
    itself = httpx.delete(f"{server.url}/keys/{made['id']}", headers=second)
    assert_problem(itself, 409, "key_in_use")
    mine = admin.get("/key").json()
    assert (mine["tenant_id"], mine["scopes"]) == (None, ["operator"])
    assert_problem(admin.post(f"/keys/{mine['key_id']}/rotate"), 409, "key_from_environment")
    assert admin.delete(f"/keys/{made['id']}").status_code == 204
    assert httpx.get(server.url + "/tenants", headers=second).status_code == 401


def test_no_key_lies_in_the_data_folder(owner: Tenant, server: LocalServer) -> None:
    key = owner.key("ask").headers["authorization"].removeprefix("Bearer ")
    assert server.data.is_dir()
    held = [path for path in server.data.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert held == []
