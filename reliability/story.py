"""A story of everything the service keeps, as a client tells it, and what must be there of it after the server died.

What was answered is there and whole; what was under way is there and whole, or not at all. The story always takes the
same path, so that the same durable steps come in every telling. Knows the HTTP API and the data folder's layout; knows
nothing of how a server is started or killed.
"""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.backup import restore
from reliability.acknowledged import Documents, check_database, given_up, made_text, settle

_EXAMPLES = Path(__file__).parent.parent / "examples" / "adapters"
_PARTS = ("adapter_config.json", "adapter_model.safetensors")
_NOT_TOLD = ("/search", "/ask")  # what changes nothing is in no audit log
_TOWNS = 20  # the fewest examples a training takes
Allowed = set[int | None]


@dataclass
class Adapter:
    """What must be there of one adapter.

    Attributes:
        versions: number → hash of those that were answered.
        unanswered: whether one more may be there.
        active: which may be the active one.
    """

    versions: dict[int, str] = field(default_factory=dict)
    unanswered: bool = False
    active: Allowed = field(default_factory=lambda: {None})


class Story:
    """One telling, on one data folder.

    Args:
        data: the server's data folder.
        chance: decides the texts.
    """

    def __init__(self, data: Path, chance: random.Random) -> None:
        self._data = data
        self._chance = chance
        self._documents = Documents()
        self._guests = Documents()
        self._guest: tuple[str, str] | None = None  # id and key of the second tenant
        self._guest_erased: bool | None = None  # None: while the erasure is not answered
        self._adapters: dict[str, Adapter] = {}
        self._datasets: dict[str, str] = {}
        self._training: str | None = None
        self._archive: tuple[bytes, set[str]] | None = None
        self._requests: set[str] = set()

    def tell(self, url: str, train: bool = False) -> None:
        """From the first document to the last backup.

        Raises:
            httpx.TransportError: the server died on the way.
            httpx.HTTPStatusError: it refused something that is right.
        """
        self._guest_erased = False
        with self._clients(url) as (client, admin):
            self._invite(url, admin)
            self._write(client)
            self._adapt(client)
            self._ask(client)
            self._back_up(admin)
            self._erase_guest(admin)
            if train:
                self._train(client)

    def _invite(self, url: str, admin: httpx.Client) -> None:
        made = admin.post("/tenants", json={"name": "guest"}).raise_for_status().json()
        self._guest = made["id"], made["api_key"]
        with _client(url, made["api_key"]) as guest:
            self._guests.ingest(guest, [made_text(self._chance)])
            settle(guest)

    def _write(self, client: httpx.Client) -> None:
        """Ingest, replace, delete; the last replacement is under way when something else begins."""
        documents, chance = self._documents, self._chance
        documents.ingest(client, [made_text(chance), made_text(chance)])
        large = " ".join(f"In the year {number} the lamp was lit by keeper {chance.random()}." for number in range(90))
        documents.ingest(client, [large], split={"method": "recursive", "size": 100})  # of more than one portion
        settle(client)
        first, second, third = documents.known
        documents.replace(client, first, made_text(chance))
        settle(client)
        documents.replace(client, first, made_text(chance))
        documents.delete(client, second)
        documents.replace(client, third, made_text(chance))
        documents.delete(client, third)
        settle(client)

    def _adapt(self, client: httpx.Client) -> None:
        adapter = self._adapters.setdefault("own", Adapter())
        for example in ("finance", "biomed"):
            files = [("files", (part, (_EXAMPLES / example / part).read_bytes())) for part in _PARTS]
            adapter.unanswered = True
            made = client.post("/adapters/own/versions", files=files).raise_for_status().json()
            adapter.versions[made["version"]] = made["sha256"]
            adapter.unanswered = False
            self._activate(client, "promote", {"version": made["version"]}, made["version"])
        self._activate(client, "rollback", None, 1)
        client.post("/adapters/own/canary", json={"version": 2, "percent": 50}).raise_for_status()
        self._activate(client, "promote", {"version": 2}, 2)
        client.put("/adapters/default", json={"name": "own"}).raise_for_status()

    def _activate(self, client: httpx.Client, how: str, body: Any, version: int, name: str = "own") -> None:
        self._adapters[name].active.add(version)
        client.post(f"/adapters/{name}/{how}", json=body).raise_for_status()
        self._adapters[name].active = {version}

    def _ask(self, client: httpx.Client) -> None:
        asked = client.post("/ask", json={"question": "What lies at the harbour?"}).raise_for_status().json()
        client.post("/feedback", json={"request_id": asked["request_id"], "rating": 1}).raise_for_status()

    def _back_up(self, admin: httpx.Client) -> None:
        there = {document_id for document_id, texts in self._documents.known.items() if None not in texts}
        archive = admin.get("/backup").raise_for_status().content
        self._archive = archive, there

    def _erase_guest(self, admin: httpx.Client) -> None:
        assert self._guest is not None
        self._guest_erased = None
        admin.delete(f"/tenants/{self._guest[0]}").raise_for_status()
        self._guest_erased = True

    def _train(self, client: httpx.Client) -> None:
        towns = [f"The town of Nameford {n} has a bridge of {120 + n} metres." for n in range(_TOWNS)]
        asked = [
            {"question": f"How long is the bridge of Nameford {n}?", "answer": f"{120 + n} metres"}
            for n in range(_TOWNS)
        ]
        self._documents.ingest(client, towns)
        settle(client)
        lines = "\n".join(map(json.dumps, asked)).encode()
        sent = client.post("/datasets", files={"file": ("towns.jsonl", lines)}, data={"name": "towns"})
        stored = sent.raise_for_status().json()
        self._datasets[stored["id"]] = stored["sha256"]
        adapter = self._adapters.setdefault("trained", Adapter())
        adapter.unanswered = True
        begun = client.post("/adapters/trained/train", json={"dataset": "towns", "epochs": 1}).raise_for_status().json()
        self._training = begun["id"]
        settle(client)
        (made,) = client.get("/adapters/trained").raise_for_status().json()["versions"]
        adapter.versions, adapter.unanswered = {made["version"]: made["sha256"]}, False
        self._activate(client, "promote", {"version": 1}, 1, "trained")

    def check(self, url: str, deaths: int = 1) -> list[str]:
        """What is not as it must be, of a server that is ready; in words.

        Args:
            deaths: how often it was killed: what it worked on both times may wait for being tried again.
        """
        with self._clients(url) as (client, admin):
            settle(client)
            if deaths > 1:
                self._documents.retry_given_up(client)
            wrong = self._documents.check(client, self._chance).reasons
            wrong += self._check_guest(url, admin, deaths)
            wrong += self._check_adapters(client)
            wrong += self._check_jobs(client, deaths)
            wrong += self._check_audit(client)
        wrong += check_files(self._data)
        if self._archive is not None:
            wrong += _check_archive(*self._archive)
            self._archive = None
        return wrong

    def _check_guest(self, url: str, admin: httpx.Client, deaths: int) -> list[str]:
        """The second tenant is there with its document and its key, or not at all."""
        listed = {each["id"] for each in admin.get("/tenants").raise_for_status().json()["tenants"]}
        folders = {path.name for path in (self._data / "tenants").iterdir()}
        wrong = [f"a folder of no tenant: {name}" for name in folders - listed]
        for tenant_id in listed:  # opened, and so brought to what its tables are to be
            admin.get(f"/tenants/{tenant_id}/audit").raise_for_status()
        if self._guest is None:
            return wrong
        tenant_id, key = self._guest
        if self._guest_erased is None:
            self._guest_erased = tenant_id not in listed
        with _client(url, key) as guest:
            if deaths > 1 and not self._guest_erased:
                self._guests.retry_given_up(guest)
            answered = guest.get("/documents").status_code
            if (answered, tenant_id in listed) != ((401, False) if self._guest_erased else (200, True)):
                return [*wrong, f"the second tenant: {answered}, erased: {self._guest_erased}"]
            return wrong if self._guest_erased else wrong + self._guests.check(guest, self._chance).reasons

    def _check_adapters(self, client: httpx.Client) -> list[str]:
        """Every version that is listed can be asked on and is the one that was answered; what is active was made so."""
        wrong = []
        listed = {each["name"]: each for each in client.get("/adapters").raise_for_status().json()["adapters"]}
        for name, known in self._adapters.items():
            found = listed.pop(name, {"versions": [], "active": None})
            there = {each["version"]: each["sha256"] for each in found["versions"]}
            more = there.keys() - known.versions.keys()
            if {n: there.get(n) for n in known.versions} != known.versions or len(more) > known.unanswered:
                wrong.append(f"versions of {name}: {there}, answered: {known}")
            if found["active"] not in known.active:
                wrong.append(f"{name}: {found['active']} is active, instead of one of {known.active}")
            known.versions, known.unanswered, known.active = there, False, {found["active"]}
            for number, sha256 in there.items():
                headers = {"X-Adapter": f"{name}@{number}"}
                asked = client.post("/ask", json={"question": "What lies at the harbour?"}, headers=headers)
                if asked.status_code != 200 or asked.json()["adapter"]["sha256"] != sha256:
                    wrong.append(f"{name}@{number} cannot be asked on: {asked.status_code} {asked.text[:200]}")
        return wrong + [f"an adapter nobody sent: {name}" for name in listed]

    def _check_jobs(self, client: httpx.Client, deaths: int) -> list[str]:
        """Jobs end well. A training goes on after a restart, and makes one version."""
        wrong = []
        stored = {each["id"]: each["sha256"] for each in client.get("/datasets").raise_for_status().json()["datasets"]}
        if not self._datasets.items() <= stored.items():
            wrong.append(f"training sets: {stored}, answered: {self._datasets}")
        jobs = client.get("/jobs", params={"limit": 1000}).raise_for_status().json()["jobs"]
        trainings = [job for job in jobs if job["kind"] == "train"]
        if self._training is not None and self._training not in {job["id"] for job in trainings}:
            wrong.append(f"the training {self._training} is not there")
        wrong += [f"a training ended so: {job}" for job in trainings if job["state"] != "succeeded"]
        others = [job for job in jobs if job["state"] == "failed" and job["kind"] != "train"]
        wrong += [f"a job failed: {job}" for job in others if not (deaths > 1 and given_up(job["error"]))]
        made = [job["result"]["version"] for job in trainings if job["state"] == "succeeded"]
        if made != sorted(self._adapters["trained"].versions) if "trained" in self._adapters else made:
            wrong.append(f"trainings made the versions {made}, there are {self._adapters.get('trained')}")
        return wrong

    def _check_audit(self, client: httpx.Client) -> list[str]:
        """Everything that was answered is told of, in a chain that holds."""
        wrong = []
        if not client.get("/audit/verification").raise_for_status().json()["valid"]:
            wrong.append("the audit log's chain is broken")
        entries = client.get("/audit", params={"limit": 1000}).raise_for_status().json()["entries"]
        if missing := self._requests - {entry["request_id"] for entry in entries}:
            wrong.append(f"{len(missing)} changes are not in the audit log")
        return wrong

    @contextmanager
    def _clients(self, url: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
        """Clients with the tenant's and the admin's key, as the first start has left them."""
        keys = kept_keys(self._data)
        with (
            _client(url, keys["LOREBASE_DEFAULT_KEY"], self._note) as client,
            _client(url, keys["LOREBASE_ADMIN_KEY"]) as admin,
        ):
            yield client, admin

    def _note(self, response: httpx.Response) -> None:
        request = response.request
        if request.method != "GET" and request.url.path not in _NOT_TOLD and response.is_success:
            self._requests.add(response.headers["X-Request-Id"])


def check_files(data: Path) -> list[str]:
    """Databases are whole, and nothing lies about that a crash left."""
    wrong = []
    for path in data.rglob("*.db"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            if (said := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                wrong.append(f"{path.name}: {said[:3]}")
            if said := connection.execute("PRAGMA foreign_key_check").fetchall():
                wrong.append(f"{path.name}: rows that refer to none: {said[:3]}")
        if path.parent != data:
            wrong += check_database(path).reasons
    for pattern in ("*.tmp", "*.part", "backup-*", "training/*"):
        wrong += [f"left behind: {path.relative_to(data)}" for path in data.rglob(pattern)]
    for registry in data.glob("tenants/*/adapters"):
        state = registry / "registry.json"
        listed = json.loads(state.read_bytes())["adapters"].values() if state.exists() else ()
        named = {version["folder"] for each in listed for version in each["versions"].values()}
        wrong += [
            f"an adapter's folder that is not listed: {p.name}"
            for p in registry.iterdir()
            if p.is_dir() and p.name not in named
        ]
    return wrong


def kept_keys(data: Path) -> dict[str, str]:
    """The keys that the first start has left in a data folder, by name."""
    lines = (data / "keys.env").read_text().splitlines()
    return {name: key for name, _, key in (line.partition("=") for line in lines)}


def _check_archive(archive: bytes, there: set[str]) -> list[str]:
    """A backup whose last byte was received can be restored, with every document that was acknowledged before."""
    with tempfile.TemporaryDirectory(prefix="lorebase-kills-") as folder, tempfile.TemporaryFile() as file:
        file.write(archive)
        data = Path(folder) / "data"
        restore(file, data)
        found: set[str] = set()
        wrong = []
        for path in data.rglob("*.db"):
            with closing(sqlite3.connect(path)) as connection:
                if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    wrong.append(f"a backup's {path.name} is damaged")
                if path.parent != data:
                    found |= {row[0] for row in connection.execute("SELECT id FROM documents")}
        return wrong + ([f"not in the backup: {there - found}"] if there - found else [])


def _client(url: str, key: str, note: Callable[[httpx.Response], None] | None = None) -> httpx.Client:
    hooks = {"response": [note]} if note is not None else {}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=120, event_hooks=hooks)
