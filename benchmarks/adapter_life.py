"""The life of an adapter through the real service: trained, gated, promoted; a bad one refused; a canary taken back.

For each domain a tenant of its own stores the training set, trains by `POST /adapters/{name}/train`, and lets the gate
decide on the test set, each question with its own paragraph. The bad candidate is trained on wrong spans of the same
paragraphs. The canary is that bad version beside the good one; thumbs follow from the gold answers.
``--quick`` uploads the adapters of `examples/` instead of training, asks fewer questions, and spoils the weights of
one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import load_file, save_file

from adapters.squad import Question, f1_score, read_squad
from app.local_server import local_server
from benchmarks.measure import DATA

EXAMPLES = Path(__file__).parent.parent / "examples" / "adapters"
DOMAINS = {"finance": "tatqa-finance", "biomed": "covidqa"}
FILES = ("adapter_config.json", "adapter_model.safetensors")
_QUICK_QUESTIONS = 60
_CANARY_QUESTIONS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the question sets (default: ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="less than a minute or two: no training, fewer questions")
    parser.add_argument("--domain", action="append", choices=[*DOMAINS], help="only this one; may be repeated")
    given = parser.parse_args()
    names = given.domain or [*DOMAINS]
    for name in names:
        for part in ("train", "test"):
            if not (given.data / f"{DOMAINS[name]}-{part}.json").is_file():
                parser.error(f"no {DOMAINS[name]}-{part}.json in {os.path.relpath(given.data)}; say where with --data.")
    result: dict[str, Any] = {}
    with local_server() as server:
        for i, name in enumerate(names):
            key = server.admin().create_tenant(name).api_key
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=3600) as tenant:
                result |= _domain(tenant, name, given.data, given.quick, with_bad_one=i == 0)
    print(json.dumps({**result, "quick": given.quick, "cpus": os.cpu_count()}))


def _domain(tenant: httpx.Client, name: str, data: Path, quick: bool, *, with_bad_one: bool) -> dict[str, Any]:
    train, test = (data / f"{DOMAINS[name]}-{part}.json" for part in ("train", "test"))
    limit = _QUICK_QUESTIONS if quick else None
    if quick:
        _upload(tenant, name, EXAMPLES / name)
    else:
        _train(tenant, name, train.name, train.read_bytes())
    gated = _gate(tenant, name, 1, test, limit)
    gain = next(d for d in gated["differences"] if d["first"] == "candidate")
    result = {f"{name}_gain": gain["f1"], f"{name}_low": gain["low"], f"{name}_promoted": gated["gate"]["promoted"]}
    _say(f"{name}: {' '.join(gated['gate']['reasons'])}")
    if with_bad_one:
        result |= _bad_candidate(tenant, name, train, test, quick, limit)
    return result


def _bad_candidate(
    tenant: httpx.Client, name: str, train: Path, test: Path, quick: bool, limit: int | None
) -> dict[str, Any]:
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            _upload(tenant, name, _spoiled(EXAMPLES / name, Path(folder)))
    else:
        _train(tenant, name, "shuffled.jsonl", _shuffled(read_squad(train)), epochs=2)
    refused = not _gate(tenant, name, 2, test, limit)["gate"]["passed"]
    active = _post(tenant, f"/adapters/{name}/promote", {"version": 1})["version"]
    rolled_back = _canary(tenant, name, read_squad(test))
    return {"bad_candidate_refused": refused, "rolled_back": rolled_back and active == 1}


def _canary(tenant: httpx.Client, name: str, questions: list[Question]) -> bool:
    """Whether the bad version, on half of the requests, was taken back by itself."""
    _post(tenant, f"/adapters/{name}/canary", {"version": 2, "percent": 50})
    for i, question in enumerate(questions[:_CANARY_QUESTIONS]):
        body = {"question": question.question, "passages": [{"text": question.context}], "min_confidence": 0}
        answer = tenant.post("/ask", json=body, headers={"X-Adapter": name}).raise_for_status().json()
        good = f1_score(answer["answer"], [a.text for a in question.answers]) >= 0.5
        rating = {"request_id": answer["request_id"], "rating": 1 if good else -1}
        tenant.post("/feedback", json=rating).raise_for_status()
        found = tenant.get(f"/adapters/{name}").json()
        if found["trial"] is None:
            _say(f"after {i + 1} questions: {found['history'][0]['reason']}")
            return bool(found["history"][0]["event"] == "trial_rolled_back" and found["active"] == 1)
    _say(f"not taken back: {found['trial']}")
    return False


def _train(tenant: httpx.Client, name: str, file: str, content: bytes, **settings: Any) -> None:
    sent = tenant.post("/datasets", files={"file": (file, content)})
    if sent.is_error:
        raise SystemExit(sent.text)
    job = _post(tenant, f"/adapters/{name}/train", {"dataset": sent.json()["id"], "method": "lora", **settings})
    began = time.monotonic()
    while job["state"] in ("queued", "running"):
        time.sleep(5)
        job = tenant.get(f"/jobs/{job['id']}").raise_for_status().json()
        done = job["progress"]
        _say(
            f"training {name}: {done['done']} of {done['total']}, loss {job['loss']}, {time.monotonic() - began:.0f} s"
        )
    if job["state"] != "succeeded":
        raise SystemExit(f"the training {job['state']}: {job['error']}")


def _gate(tenant: httpx.Client, name: str, version: int, test: Path, limit: int | None) -> dict[str, Any]:
    body = {"data": json.loads(test.read_bytes())["data"], "passages": "given", "name": test.stem, "limit": limit}
    found = _post(tenant, f"/adapters/{name}/versions/{version}/gate?wait=true", body)
    if found.get("state") != "succeeded":
        raise SystemExit(f"the gate did not decide: {found}")
    return found


def _upload(tenant: httpx.Client, name: str, folder: Path) -> None:
    files = [("files", (file, (folder / file).read_bytes())) for file in FILES]
    tenant.post(f"/adapters/{name}/versions", files=files).raise_for_status()


def _post(tenant: httpx.Client, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    response = tenant.post(path, json=body)
    if response.is_error:
        raise SystemExit(f"{path}: {response.text}")
    found: dict[str, Any] = response.json()
    return found


def _spoiled(folder: Path, into: Path) -> Path:
    """An adapter whose low-rank products have their rows in another order: as large as before, and wrong."""
    torch.manual_seed(0)
    tensors = load_file(folder / FILES[1])
    mixed = {k: t[torch.randperm(len(t))].contiguous() if "lora_B" in k else t for k, t in tensors.items()}
    save_file(mixed, into / FILES[1])
    shutil.copy(folder / FILES[0], into)
    return into


def _shuffled(questions: list[Question]) -> bytes:
    """Training examples whose answers are other spans of their paragraphs, as long as the right ones."""
    draw = random.Random(0)
    lines = []
    for question in questions:
        if question.answers:
            words = question.context.split()
            length = max(1, len(question.answers[0].text.split()))
            start = draw.randrange(max(1, len(words) - length))
            wrong = question.context[_offset(question.context, start) :].split()[:length]
            text = " ".join(wrong)
            if text in question.context:
                lines.append(json.dumps({"question": question.question, "answer": text, "passage": question.context}))
    return "\n".join(lines).encode()


def _offset(text: str, word: int) -> int:
    """Where the word of this number begins."""
    end = 0
    for each in text.split()[:word]:
        end = text.index(each, end) + len(each)
    return end


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
