"""Adapters made to harm: pickles, bombs, wrong shapes, values that are no numbers, lying headers, names that reach out.

Each is uploaded to a server that runs: refused with 422, nothing listed, nothing in memory, nothing executed, and
answers as before.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from app.local_server import LocalServer
from reliability.outcome import Outcome

_GOOD = Path(__file__).parent.parent / "examples" / "adapters" / "finance"
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_QUESTION = {"question": "What turns in the tower?", "min_confidence": 0}
_MIB = 1024**2
Files = list[tuple[str, bytes]]


class _Canary:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def run(server: LocalServer, *, seed: int = 1, bomb_mib: int = 3000) -> Outcome:
    """Upload every such adapter.

    Args:
        seed: not used: nothing here is left to chance.
        bomb_mib: what an archive unpacks to.
    """
    outcome, mark = Outcome(), f"escaped{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="lorebase-adapters-") as folder:
        canary = Path(folder) / "canary"
        pickled = pickle.dumps(_Canary(canary))
        pickle.loads(pickled).close()
        outcome.check(canary.exists(), "the pickle does nothing: this row could not fail")
        canary.unlink()
        with httpx.Client(base_url=server.url, headers=_bearer(server.admin_key), timeout=120) as admin:
            key = admin.post("/tenants", json={"name": f"adapters {mark}"}).raise_for_status().json()["api_key"]
        with httpx.Client(base_url=server.url, headers=_bearer(key), timeout=120) as client:
            text = {"documents": [{"text": "A lamp turns in the tower."}]}
            client.post("/ingest", params={"wait": "true"}, json=text).raise_for_status()
            good: Files = [(name, (_GOOD / name).read_bytes()) for name in (_CONFIG, _WEIGHTS)]
            _upload(client, "good", good).raise_for_status()
            client.post("/adapters/good/promote", json={"version": 1}).raise_for_status()
            answered, before = _answer(client), _listed(client)
            for way, name, files in _bad(good, pickled, mark, bomb_mib):
                answer = _upload(client, name, files)
                allowed = (404, 422) if "%2" in name.upper() else (422,)  # a slash makes a path that has no route
                said = f"{way}: {answer.status_code} {answer.text[:300]}"
                outcome.check(answer.status_code in allowed, said)
                outcome.check(not canary.exists(), f"{way}: what was uploaded was executed")
                listed = _listed(client)
                outcome.check(listed == before, f"{way}: the list or the memory is not as before: {listed[:300]}")
                before = listed
            outcome.check(_answer(client) == answered, "the answers are not as before")
        made = [str(p) for root in (server.data.parent, Path(folder)) for p in root.rglob(f"*{mark}*")]
        made += [str(path) for path in Path(tempfile.gettempdir()).glob(f"*{mark}*")]
        outcome.check(not made, f"files were made: {made}")
    return outcome


def _bad(good: Files, pickled: bytes, mark: str, bomb_mib: int) -> Iterator[tuple[str, str, Files]]:
    """What is wrong, the name it is uploaded under, and the files."""
    (_, config), (_, weights) = good
    yield "a pickle as weights", "bad", [(_CONFIG, config), (_WEIGHTS, pickled)]
    yield "a pickle as configuration", "bad", [(_CONFIG, pickled), (_WEIGHTS, weights)]
    yield "a pickle under peft's other name", "bad", [(_CONFIG, config), ("adapter_model.bin", pickled)]
    yield "a pickle in an archive", "bad", [("a.zip", _zip([(_CONFIG, config), ("adapter_model.bin", pickled)]))]
    bomb = [(_CONFIG, config), (_WEIGHTS, bytes(bomb_mib * _MIB))]
    yield "an archive that is a bomb", "bad", [("a.zip", _zip(bomb))]
    yield "an archive cut short", "bad", [("a.zip", _zip(good)[:5000])]
    for path in (f"../{mark}", f"/tmp/{mark}", f"..\\..\\{mark}"):
        yield f"a file {path} in an archive", "bad", [("a.zip", _zip([*good, (path, b"x")]))]
        yield f"a file {path}", "bad", [(_CONFIG, config), (f"{path}/{_WEIGHTS}x", weights)]
    for name in (f"..%2F{mark}", f"%2E%2E%2F{mark}", "..%5C..%5Cx", "%00", "a%0Ab", "x" * 300, "base", "%2E%2E", "a@1"):
        yield f"the name {name[:30]}", name, good
    for way, head, data in _lying(weights):
        yield way, "bad", [(_CONFIG, config), (_WEIGHTS, head + data)]
    settings = json.loads(config)
    changes: dict[str, dict[str, Any]] = {
        "a huge rank": {"r": 10**9}, "no rank": {"r": 0}, "a negative rank": {"r": -8}, "a rank of letters": {"r": "8"},
        "another rank than the weights'": {"r": 4}, "another method": {"peft_type": "IA3"},
        "a scale that is no number": {"lora_alpha": float("nan")}, "an endless scale": {"lora_alpha": float("inf")},
        "another base": {"base_model_name_or_path": "someone/other-model"},
    }  # fmt: skip
    for way, change in changes.items():
        yield way, "bad", [(_CONFIG, json.dumps({**settings, **change}).encode()), (_WEIGHTS, weights)]
    yield "a configuration without end", "bad", [(_CONFIG, b"[" * 100_000), (_WEIGHTS, weights)]
    yield "a configuration that is a list", "bad", [(_CONFIG, b"[]"), (_WEIGHTS, weights)]


def _lying(weights: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Weights whose head is not what follows it, or whose values are none: what is wrong, head, data."""
    size = struct.unpack("<Q", weights[:8])[0]
    header, data = json.loads(weights[8 : 8 + size]), weights[8 + size :]
    first = next(name for name in header if "lora_A" in name)
    at, end = header[first]["data_offsets"]

    def changed(change: Mapping[str, Any]) -> bytes:
        made = copy.deepcopy(header)
        made[first].update(change)
        return _head(made)

    yield "a header longer than all", struct.pack("<Q", 2**63), data
    yield "a header longer than the file", struct.pack("<Q", len(weights) * 2), weights[8:]
    yield "an empty file", b"", b""
    yield "no data", _head(header), b""
    yield "half of the data", _head(header), data[: len(data) // 2]
    yield "a shape of billions", changed({"shape": [2**31, 2**31]}), data
    yield "a shape turned", changed({"shape": header[first]["shape"][::-1]}), data
    yield "a negative shape", changed({"shape": [-8, -384]}), data
    yield "offsets beyond the file", changed({"data_offsets": [at, 2**62]}), data
    yield "offsets the wrong way round", changed({"data_offsets": [end, at]}), data
    yield "a kind of number there is not", changed({"dtype": "F7"}), data
    yield (
        "a module of a path",
        _head({name.replace("query", "../../query"): said for name, said in header.items()}),
        data,
    )
    for way, value in (("values that are no numbers", float("nan")), ("endless values", float("inf"))):
        kind = {"F32": "<f", "F16": "<e"}[header[first]["dtype"]]
        one = struct.pack(kind, value)
        yield way, _head(header), data[:at] + one * ((end - at) // len(one)) + data[end:]
        yield f"{way}, one of them", _head(header), data[:at] + one + data[at + len(one) :]


def _head(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def _listed(client: httpx.Client) -> str:
    """Every adapter with its versions, and which of them are in memory."""
    return client.get("/adapters").raise_for_status().text


def _answer(client: httpx.Client) -> str:
    said = client.post("/ask", json=_QUESTION, headers={"X-Adapter": "good"}).raise_for_status().json()
    return json.dumps([said["answer"], said["confidence"], said["adapter"]])


def _upload(client: httpx.Client, name: str, files: Files) -> httpx.Response:
    return client.post(f"/adapters/{name}/versions", files=[("files", file) for file in files])


def _zip(parts: Files) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return file.getvalue()


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
