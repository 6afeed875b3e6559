"""Files that are not what was written: bits turned, files cut short, two tenants' files exchanged.

What is derived is made again; where that cannot be, the tenant is refused with the reason, and every other is served as
before. Whatever is answered is right: never another tenant's words, never a wrong text, never a 500.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx

from app.local_server import LocalServer, local_server
from reliability.outcome import Outcome

_SETTINGS = {"LOREBASE_EXACT_UP_TO": "1000"}  # the fewest
_CHUNKS = 1200  # of a tenant with inverted lists
_LISTS_SECONDS = 30.0
Damage = Callable[[Path, random.Random], None]


def run(*, seed: int = 1, rounds: int = 60, lists: bool = True) -> Outcome:
    """Make tenants, damage each in one way, and look.

    Args:
        rounds: further tenants with bytes changed at random.
        lists: one with so many chunks that it has inverted lists, and a file of them.
    """
    outcome, chance = Outcome(), random.Random(seed)
    ways: dict[str, Damage | None] = {
        "whole": None,
        "vector": _turn_a_bit_of_every_vector,
        "text": _change_a_text,
        "truncated": _cut_in_half,
        "header": _write_over_the_header,
        "exchanged": None,
        "exchanged back": None,
        **{f"bytes {number}": _change_bytes for number in range(rounds)},
    }
    if lists:
        ways["lists"] = _damage_lists
    with tempfile.TemporaryDirectory(prefix="lorebase-damage-") as folder:
        data = Path(folder) / "data"
        with local_server(environment=_SETTINGS, data=data) as server:
            tenants = {way: _tenant(server, way) for way in ways}
        folders = {way: data / "tenants" / tenant_id for way, (tenant_id, _) in tenants.items()}
        for way, damage in ways.items():
            if damage is not None:
                damage(folders[way], chance)
        _exchange(folders["exchanged"] / "lorebase.db", folders["exchanged back"] / "lorebase.db")
        with local_server(environment=_SETTINGS, data=data) as server:
            for way, (tenant_id, key) in tenants.items():
                _look(server, way, tenant_id, key, outcome, list(tenants))
            if outcome.failed:
                print(_errors(server.log.read_text()), file=sys.stderr)
    return outcome


def _look(server: LocalServer, way: str, tenant_id: str, key: str, outcome: Outcome, ways: list[str]) -> None:
    """Read everything of a tenant; then erase it."""
    with _client(server, key) as client:
        answers = {
            "documents": client.get("/documents"),
            "search": client.post("/search", json={"query": f"Where is the lamp of {way}?", "top_k": 3}),
            "ask": client.post("/ask", json={"question": f"Where is the lamp of {way}?", "min_confidence": 0}),
            "ingest": client.post("/ingest", json={"documents": [{"text": f"A new lamp for {way}."}]}),
        }
    found = outcome.figures
    for name, answer in answers.items():
        where = f"{way}, {name}: {answer.status_code} {answer.text[:200]}"
        fits = answer.status_code < 300 or (answer.status_code == 503 and answer.json()["code"] == "damaged")
        outcome.check(fits, where)
        others = [other for other in ways if other != way and _secret(other) in answer.text]
        outcome.check(not others, f"words of {others} in {where}")
        if way in ("whole", "vector", "lists"):
            outcome.check(answer.status_code < 300, f"not mended: {where}")
        if way in ("truncated", "header", "exchanged", "exchanged back"):
            outcome.check(answer.status_code == 503, f"not refused: {where}")
        if name == "search" and answer.status_code == 200:
            text = " ".join(passage["text"] for passage in answer.json()["passages"])
            right = _secret(way) in text and way != "text"
            outcome.check(right, f"what was found is not what was stored: {way}: {text[:100]}")
            found["answered"] = found.get("answered", 0) + 1
        elif name == "search":
            found["refused"] = found.get("refused", 0) + 1
    with _client(server, server.admin_key) as admin:
        erased = admin.delete(f"/tenants/{tenant_id}")
        outcome.check(erased.status_code == 204, f"{way} cannot be erased: {erased.text[:200]}")


def _errors(log: str) -> str:
    """The unexpected errors of a log, each with the place it was raised at."""
    found = re.findall(r"unexpected error.*?\nTraceback.*?(?:\n\d{4}-|\Z)", log, re.DOTALL)
    return "\n".join(" | ".join(line.strip() for line in each.splitlines()[-6:-1]) for each in found)


def _tenant(server: LocalServer, way: str) -> tuple[str, str]:
    """A tenant with a document that holds its secret, and for the lists many more: its id and key."""
    with _client(server, server.admin_key) as admin:
        made = admin.post("/tenants", json={"name": way}).raise_for_status().json()
    texts = [f"The lamp of {way} stands in {_secret(way)}."]
    if way == "lists":
        texts += [
            "\n\n".join(
                f"Sentence {n} of it says {n * 7919}, and little else, at some length so that it stands by itself."
                for n in range(_CHUNKS)
            )
        ]
    with _client(server, made["api_key"]) as client:
        documents = {"documents": [{"text": text} for text in texts], "split": {"method": "recursive", "size": 100}}
        client.post("/ingest", params={"wait": "true"}, json=documents).raise_for_status()
        client.post("/search", json={"query": "a lamp"}).raise_for_status()  # loads the index, and has lists made
    if way == "lists":
        deadline = time.monotonic() + _LISTS_SECONDS
        while not list(server.data.glob(f"tenants/{made['id']}/index/*.lists")) and time.monotonic() < deadline:
            time.sleep(0.1)
    return made["id"], made["api_key"]


def _secret(way: str) -> str:
    return "room" + "".join(f"{ord(letter):02x}" for letter in way) + "x"


def _client(server: LocalServer, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _turn_a_bit_of_every_vector(folder: Path, chance: random.Random) -> None:
    with closing(sqlite3.connect(folder / "lorebase.db")) as connection, connection:
        for chunk, vector in connection.execute("SELECT chunk, vector FROM vectors").fetchall():
            place = chance.randrange(len(vector))
            turned = vector[:place] + bytes([vector[place] ^ (1 << chance.randrange(8))]) + vector[place + 1 :]
            connection.execute("UPDATE vectors SET vector = ? WHERE chunk = ?", (turned, chunk))


def _change_a_text(folder: Path, _: random.Random) -> None:
    with closing(sqlite3.connect(folder / "lorebase.db")) as connection, connection:
        connection.execute("UPDATE chunks SET text = replace(text, 'stands', 'stood.')")


def _cut_in_half(folder: Path, _: random.Random) -> None:
    _without_wal(folder)
    database = folder / "lorebase.db"
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)


def _write_over_the_header(folder: Path, chance: random.Random) -> None:
    _without_wal(folder)
    with (folder / "lorebase.db").open("r+b") as file:
        file.write(chance.randbytes(100))


def _change_bytes(folder: Path, chance: random.Random) -> None:
    _without_wal(folder)
    database = folder / "lorebase.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        for _ in range(chance.choice((1, 8, 64))):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(1))


def _damage_lists(folder: Path, chance: random.Random) -> None:
    for file in (folder / "index").glob("*.lists"):
        with file.open("r+b") as lists:
            lists.seek(chance.randrange(2000, file.stat().st_size))
            lists.write(chance.randbytes(3))


def _exchange(one: Path, other: Path) -> None:
    _without_wal(one.parent)
    _without_wal(other.parent)
    between = one.with_name("between")
    shutil.move(one, between)
    shutil.move(other, one)
    shutil.move(between, other)


def _without_wal(folder: Path) -> None:
    """Have all of a database in its one file."""
    with closing(sqlite3.connect(folder / "lorebase.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in ("lorebase.db-wal", "lorebase.db-shm"):
        (folder / name).unlink(missing_ok=True)
