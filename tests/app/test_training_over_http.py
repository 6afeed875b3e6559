"""Data sets and trainings over HTTP: a set in, a version with its lineage out; what is refused; what is cancelled."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.app.texts import ask, assert_problem

pytestmark = pytest.mark.e2e
TOWNS = [f"The town of Nameford {n} has a bridge of {120 + n} metres. Its mayor is Ms Number{n}." for n in range(12)]


def town_lines(**fields: Any) -> bytes:
    """Two questions on each town, without passages: these are retrieved."""
    asked = []
    for n in range(len(TOWNS)):
        asked.append({"question": f"How long is the bridge of Nameford {n}?", "answer": f"{120 + n} metres", **fields})
        asked.append({"question": f"Who leads Nameford {n}?", "answer": f"Ms Number{n}", **fields})
    return "\n".join(map(json.dumps, asked)).encode()


def send_set(client: httpx.Client, content: bytes, name: str | None = None, file: str = "set.jsonl") -> httpx.Response:
    return client.post("/datasets", files={"file": (file, content)}, data={"name": name} if name else {})


def wait_for(client: httpx.Client, job_id: str, *states: str, seconds: float = 90) -> dict[str, Any]:
    """The job once it is in one of the states."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        if job["state"] in states:
            return job
        time.sleep(0.1)
    pytest.fail(f"the job is {job['state']} at {job['stage']}")


def send_towns(client: httpx.Client) -> None:
    documents = [{"title": f"Nameford {n}", "text": text} for n, text in enumerate(TOWNS)]
    assert client.post("/ingest", params={"wait": "true"}, json={"documents": documents}).status_code == 200


def test_a_training_makes_a_version_with_its_lineage_that_is_not_active(tenant: httpx.Client) -> None:
    send_towns(tenant)
    dataset = send_set(tenant, town_lines(), "towns").json()
    started = tenant.post("/adapters/towns/train", json={"dataset": "towns", "targets": "all", "epochs": 3})
    assert started.status_code == 202, started.text
    job_id = started.json()["id"]
    seen = [line for line in tenant.get(f"/jobs/{job_id}/events", timeout=120).text.split("\n") if line[:5] == "data:"]
    told = [json.loads(line[5:]) for line in seen]
    assert told[-1]["state"] == "succeeded", told[-1]["error"]
    order = ["preparing", "starting", "loading", "training"]
    stages = [each["stage"] for each in told if each["stage"] in order]  # one that is short may pass untold
    assert stages == sorted(stages, key=order.index)
    assert "training" in stages
    assert any(each["eta_seconds"] is not None for each in told)
    job = tenant.get(f"/jobs/{job_id}").json()
    assert job["progress"] == {"done": 18, "total": 18, "unit": "steps"}
    points = tenant.get(f"/jobs/{job_id}/loss").json()["points"]
    assert (points[0]["step"], points[-1]["step"]) == (1, 18)
    assert points[-1]["loss"] < points[0]["loss"]
    adapter = tenant.get("/adapters/towns").json()
    (version,) = adapter["versions"]
    assert (adapter["active"], job["result"]["version"]) == (None, 1)
    lineage = version["lineage"]
    assert (lineage["method"], lineage["dataset"], lineage["job_id"]) == ("lora", dataset["id"], job_id)
    assert len(lineage["documents"]) == len(TOWNS), "the documents whose passages were trained on"
    assert lineage["parameters"]["rank"] == 8
    assert min(lineage["seconds"], lineage["trainable"], lineage["steps"]) > 0
    answer = ask(tenant, "Who leads Nameford 3?", adapter="towns@1", min_confidence=0)
    assert answer["adapter"]["sha256"] == version["sha256"]


def test_a_cancelled_training_leaves_no_version_and_lets_the_next_one_begin(tenant: httpx.Client) -> None:
    send_towns(tenant)
    send_set(tenant, town_lines(), "towns")
    first, second = (
        tenant.post("/adapters/towns/train", json={"dataset": "towns", "epochs": 500}).json()["id"] for _ in range(2)
    )
    wait_for(tenant, first, "running")
    assert tenant.get(f"/jobs/{second}").json()["state"] == "queued", "one at a time"
    for job_id in (second, first):
        assert tenant.post(f"/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert tenant.get("/adapters").json()["adapters"] == []
    third = tenant.post("/adapters/towns/train", json={"dataset": "towns", "epochs": 500}).json()["id"]
    wait_for(tenant, third, "running", seconds=20)
    tenant.post(f"/jobs/{third}/cancel")


def test_a_set_is_stored_once_listed_and_deleted(tenant: httpx.Client) -> None:
    sent = send_set(tenant, town_lines(), "towns")
    assert sent.status_code == 201
    assert (sent.json()["examples"], sent.json()["answered"], sent.json()["with_passages"]) == (24, 24, 0)
    again = send_set(tenant, town_lines())
    assert (again.status_code, again.json()["id"], again.json()["duplicate"]) == (200, sent.json()["id"], True)
    assert_problem(send_set(tenant, town_lines(document="x"), "towns"), 409, "dataset_exists")
    assert [each["name"] for each in tenant.get("/datasets").json()["datasets"]] == ["towns"]
    kept = tenant.get("/datasets/towns/examples").text.splitlines()
    assert json.loads(kept[0])["answers"] == ["120 metres"]
    assert tenant.delete("/datasets/towns").status_code == 204
    assert_problem(tenant.get("/datasets/towns"), 404, "not_found")
    assert_problem(tenant.get(f"/datasets/{sent.json()['id']}"), 404, "not_found")


def test_a_set_that_is_not_one_is_refused_with_line_and_field(tenant: httpx.Client) -> None:
    bad = town_lines() + b'\n{"question": ""}'
    detail = assert_problem(send_set(tenant, bad), 422, "invalid_training_data")["detail"]
    assert "set.jsonl, line 25, field 'question'" in detail
    assert_problem(send_set(tenant, town_lines(), "No Name"), 422, "invalid_dataset_name")
    assert_problem(tenant.post("/datasets", json={"examples": []}), 422, "invalid_request")
    nameless = assert_problem(tenant.post("/datasets", files={"file": ("", town_lines())}), 422, "invalid_request")
    assert nameless["detail"] == "file: must be a file with a name, sent as multipart/form-data"
    assert tenant.get("/datasets").json()["total"] == 0


def test_what_cannot_be_trained_is_refused_before_anything_is_queued(tenant: httpx.Client) -> None:
    send_set(tenant, b"\n".join(town_lines().split(b"\n")[:10]), "ten")
    send_set(tenant, town_lines(), "towns")
    for body, status, code, said in (
        ({"dataset": "ten"}, 422, "invalid_training_data", "10 usable examples"),
        ({"dataset": "nobody"}, 404, "not_found", "no such data set"),
        ({"dataset": "towns", "method": "magic"}, 422, "invalid_request", "'lora'"),
        ({"dataset": "towns", "rank": 257}, 422, "invalid_request", "256"),
        ({"dataset": "towns", "method": "prefix"}, 422, "invalid_training_data", "the reader has none"),
        ({"dataset": "towns", "method": "ia3", "rank": 4}, 422, "invalid_training_data", "rank: ia3 has none"),
        ({"dataset": "towns", "objective": "dpo"}, 422, "invalid_training_data", "dpo"),
        ({}, 422, "invalid_request", "dataset"),
    ):
        problem = assert_problem(tenant.post("/adapters/towns/train", json=body), status, code)
        assert said in problem["detail"], problem["detail"]
    assert_problem(tenant.post("/adapters/base/train", json={"dataset": "towns"}), 422, "invalid_adapter_name")
    judged = tenant.post("/datasets/judge", json={"dataset": "towns", "judge": {"rule": "short"}})
    assert "the reader writes none" in assert_problem(judged, 422, "invalid_training_data")["detail"]
    assert tenant.get("/jobs").json()["total"] == 0


def lines_of(examples: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, examples)).encode()


def reading_examples(count: int = 24) -> list[dict[str, Any]]:
    """Examples that bring their passages."""
    return [
        {
            "question": f"How long is bridge {n}?",
            "answer": f"{100 + n} metres",
            "passage": f"Bridge {n} has {100 + n} metres.",
        }
        for n in range(count)
    ]


def test_a_set_that_would_only_cost_time_says_so_when_it_comes_and_is_refused_when_it_is_to_be_trained_on(
    tenant: httpx.Client,
) -> None:
    good = reading_examples()
    alike = [{**each, "answer": "yes", "passage": "yes"} for each in reading_examples(99)] + good[:1]
    for examples, said in (
        (good[:10], "10 usable examples"),
        (good[:12] * 3, "12 usable examples (24 duplicates were left out.)"),
        ([{**each, "answer": "nowhere"} for each in good[:13]] + good[13:], "13 of 24 answers do not stand"),
        (alike, "99 of 100 examples have the answer 'yes'"),
        (
            [{"question": each["question"], "unanswerable": True, "passage": "x"} for each in good],
            "no answered question",
        ),
    ):
        sent = send_set(tenant, lines_of(examples))
        assert sent.status_code == 201, sent.text
        assert said in sent.json()["warnings"][0], sent.json()["warnings"]
        problem = tenant.post("/adapters/towns/train", json={"dataset": sent.json()["id"]})
        assert said in assert_problem(problem, 422, "invalid_training_data")["detail"]
    assert tenant.get("/jobs").json()["total"] == 0


def test_what_is_doubtful_in_a_set_is_a_warning_when_it_comes(tenant: httpx.Client) -> None:
    good = reading_examples()
    german = [
        {"question": f"Wie lang ist Brücke {n}?", "answer": f"{n} Meter", "passage": f"Die Brücke {n} misst {n} Meter."}
        for n in range(10, 40)
    ]
    chinese = [{"question": f"桥{n}有多长?", "answer": f"{n}米", "passage": f"桥{n}长{n}米。"} for n in range(10, 40)]
    torn = {**good[0], "answer": "metres"}
    for examples, said in (
        (good, "Only 24 examples"),
        ([*good, good[0]], "1 duplicates were left out"),
        ([*good, torn], "different answers"),
        ([{**good[0], "answer": "nowhere"}, *good[1:]], "1 examples were left out: their answers do not stand"),
        ([{**each, "answer": "metres"} for each in good[:14]] + good[14:], "14 of 24 examples have the answer"),
        (german, "English"),
        (chinese, "English"),
    ):
        warnings = send_set(tenant, lines_of(examples)).json()["warnings"]
        assert any(said in warning for warning in warnings), (said, warnings)


def test_without_documents_to_retrieve_from_a_training_fails_and_says_what_to_do(tenant: httpx.Client) -> None:
    send_set(tenant, town_lines(), "towns")
    job_id = tenant.post("/adapters/towns/train", json={"dataset": "towns"}).json()["id"]
    job = wait_for(tenant, job_id, "failed")
    assert "Ingest the documents" in job["error"]
    assert tenant.get("/adapters").json()["adapters"] == []
    assert_problem(tenant.post(f"/jobs/{job_id}/retry"), 409, "nothing_to_retry")


def test_a_set_is_built_from_documents_with_questions_that_come_back_held_out_by_document(tenant: httpx.Client) -> None:
    texts = [f"Beacon {n} is {31 + n} metres tall. The lamp of Beacon {n} was made in {1870 + n}." for n in range(12)]
    documents = [{"title": f"Beacon {n}", "text": text} for n, text in enumerate(texts)]
    tenant.post("/ingest", params={"wait": "true"}, json={"documents": documents})
    started = tenant.post("/datasets/build", json={"name": "made", "held_out": 0.5})
    assert started.status_code == 202, started.text
    job = wait_for(tenant, started.json()["id"], "succeeded", "failed")
    assert job["error"] is None
    assert job["result"]["examples"] > 3
    trained, held_out = (
        [json.loads(line) for line in tenant.get(f"/datasets/{name}/examples").text.splitlines()]
        for name in ("made", "made-held-out")
    )
    assert not {each["document"] for each in trained} & {each["document"] for each in held_out}
    for each in [*trained, *held_out]:
        text, start = each["passages"][0]["text"], each["start"]
        assert text[start:].startswith(each["answers"][0])
    assert_problem(tenant.post("/datasets/build", json={"documents": ["nobody"]}), 404, "not_found")


def test_feedback_becomes_a_set_and_none_is_refused(tenant: httpx.Client) -> None:
    body = {"dataset": {"feedback": True}}
    assert "no feedback" in assert_problem(
        tenant.post("/adapters/towns/train", json=body), 422, "invalid_training_data"
    )["detail"]  # fmt: skip
    send_towns(tenant)
    for n in range(3):
        answer = ask(tenant, f"How long is the bridge of Nameford {n}?", min_confidence=0)
        rated = {"request_id": answer["request_id"], "rating": -1, "correction": f"{120 + n} metres"}
        assert tenant.post("/feedback", json=rated).status_code == 204
    problem = assert_problem(tenant.post("/adapters/towns/train", json=body), 422, "invalid_training_data")
    assert "3 usable examples" in problem["detail"]
    (kept,) = tenant.get("/datasets").json()["datasets"]
    assert (kept["source"], kept["examples"], kept["with_passages"]) == ("feedback", 3, 3)
