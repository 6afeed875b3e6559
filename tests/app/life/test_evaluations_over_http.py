"""Evaluations and the gate through a real server: figures, reports, refusals, and what a gate does to a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters.reader_lora import lora_tensors, write_lora
from tests.app.test_isolation import upload
from tests.app.texts import LIGHTHOUSE, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTIONS: list[dict[str, Any]] = [
    {"question": "When was the lighthouse at Skerry Point built?", "answers": ["1874"]},
    {"question": "Who was the engineer of the lighthouse?", "answers": ["Anna Brandt"]},
    {"question": "What turned the lamp until 1962?", "answers": ["a clockwork", "clockwork"]},
    {"question": "How tall is the lighthouse?", "answers": ["31 metres"]},
]
FINANCE = Path(__file__).parents[3] / "examples" / "adapters" / "finance"


@pytest.fixture
def random_adapter(tmp_path: Path) -> Path:
    """An adapter that changes answers, and not for the better."""
    return write_lora(tmp_path / "adapter", lora_tensors(seed=3, scale=0.4)).folder


def evaluated(tenant: httpx.Client, path: str = "/evaluate", **body: Any) -> dict[str, Any]:
    response = tenant.post(path, params={"wait": "true"}, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert found["state"] == "succeeded", found["error"]
    return found


def test_a_comparison_tells_each_ways_figures_and_what_to_take(tenant: httpx.Client, random_adapter: Path) -> None:
    ingest(tenant, LIGHTHOUSE, "The harbour of Sellin is closed in winter because of ice.")
    upload(tenant, "sea", random_adapter)
    found = evaluated(tenant, name="lamps", questions=QUESTIONS, adapter="sea@1")
    assert [way["way"] for way in found["ways"]] == ["prompt_only", "rag", "adapter", "rag_adapter"]
    assert "quotes" in found["ways"][0]["impossible"]
    assert "quotes" in found["ways"][2]["impossible"]
    rag = found["ways"][1]["figures"]
    assert rag["n"] == found["questions"] == 4
    assert rag["f1"] > 50
    assert rag["recall"]["5"] == 1
    assert rag["citation_correct"] > 0.5
    assert rag["tokens"] > 0
    assert found["ways"][3]["adapter"] == "sea@1"
    assert [(d["first"], d["second"]) for d in found["differences"]] == [("rag_adapter", "rag")]
    assert found["recommendation"]["way"] == "rag"
    assert found == tenant.get(f"/evaluations/{found['id']}").json()
    job = tenant.get(f"/jobs/{found['job_id']}").json()
    assert (job["kind"], job["state"], job["progress"]) == (
        "evaluate", "succeeded", {"done": 8, "total": 8, "unit": "answers"},
    )  # fmt: skip
    page = tenant.get(f"/evaluations/{found['id']}/report").text
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert found["recommendation"]["text"][:20] in page
    assert "| RAG |" in tenant.get(f"/evaluations/{found['id']}/report", params={"format": "markdown"}).text
    assert [e["id"] for e in tenant.get("/evaluations").json()["evaluations"]] == [found["id"]]
    assert tenant.get("/feedback").json()["total"] == 0
    assert tenant.delete(f"/evaluations/{found['id']}").status_code == 204
    assert_problem(tenant.get(f"/evaluations/{found['id']}"), 404, "not_found")


def test_a_set_in_squads_format_is_asked_with_its_own_paragraphs(tenant: httpx.Client) -> None:
    qas = [
        {"id": "1", "question": q["question"], "answers": [{"text": a, "answer_start": LIGHTHOUSE.find(a)}
         for a in q["answers"]]} for q in QUESTIONS
    ]  # fmt: skip
    qas.append({"id": "2", "question": "Who painted the boats?", "answers": [], "is_impossible": True})
    data = [{"title": "<b>Light</b>", "paragraphs": [{"context": LIGHTHOUSE, "qas": qas}]}]
    found = evaluated(tenant, name="<script>alert(1)</script>", data=data, version="1.1", passages="given")
    figures = next(way["figures"] for way in found["ways"] if way["way"] == "rag")
    assert figures["n"] == 5
    assert figures["f1"] > 40
    assert figures["abstain_recall"] is not None
    assert "<script>" not in tenant.get(f"/evaluations/{found['id']}/report").text


def test_a_worse_candidate_stays_registered_with_the_reason(tenant: httpx.Client, random_adapter: Path) -> None:
    ingest(tenant, LIGHTHOUSE)
    upload(tenant, "sea", random_adapter)
    found = evaluated(tenant, "/adapters/sea/versions/1/gate", questions=QUESTIONS * 5, limit=20)
    assert found["kind"] == "gate"
    assert found["gate"]["passed"] is False
    assert "F1 points worse than the base" in " ".join(found["gate"]["reasons"])
    assert found["general"]["first"] == "candidate"
    advice = found["gate"]["advice"]
    assert advice["because"] in ("forgets", "worse")
    assert (advice["even"], advice["likely"]) == (None, None)
    assert advice["next"] == "POST /adapters/sea/train"
    assert advice["promote_anyway"] == "POST /adapters/sea/promote"
    adapter = tenant.get("/adapters/sea").json()
    assert adapter["active"] is None
    assert adapter["versions"][0]["gate"]["passed"] is False
    assert adapter["versions"][0]["gate"]["advice"] == advice
    assert adapter["versions"][0]["gate"]["evaluation_id"] == found["id"]
    assert tenant.put("/policy", json={"require_gate": True}).json()["require_gate"] is True
    refused = assert_problem(tenant.post("/adapters/sea/promote", json={"version": 1}), 409, "gate_required")
    assert refused["advice"] == {**advice, "promote_anyway": None}
    assert advice["text"] in refused["detail"]
    assert tenant.get(f"/evaluations/{found['id']}").json()["gate"]["advice"]["promote_anyway"] is None
    assert_problem(tenant.post("/v1/load_lora_adapter", json={"lora_name": "sea"}), 409, "gate_required")
    tenant.put("/policy", json={"require_gate": False})
    assert tenant.post("/adapters/sea/promote", json={"version": 1}).status_code == 200


def test_a_better_candidate_is_promoted_by_the_gate(tenant: httpx.Client) -> None:
    paragraphs = [
        f"Revenue of segment {name} increased by ${n}.{n % 10} million, or {n}%, in fiscal 2019, due to higher volumes "
        f"in {place} and favourable prices." for n, (name, place) in enumerate(
            [("Steel", "Brazil"), ("Paper", "Japan"), ("Glass", "Norway"), ("Grain", "Kenya")], start=3)
    ]  # fmt: skip
    questions = [
        {"question": f"Why did revenue of segment {text.split()[3]} increase?", "context": text,
         "answers": [text[text.index("due to ") + 7 : -1]]} for text in paragraphs
    ] * 6  # fmt: skip
    upload(tenant, "finance", FINANCE)
    found = evaluated(
        tenant, "/adapters/finance/versions/1/gate", questions=questions, passages="given", tolerance=100, margin=0
    )
    base, candidate = (way["figures"]["f1"] for way in found["ways"])
    assert found["gate"]["passed"] is (candidate > base), found["gate"]["reasons"]
    assert tenant.get("/adapters/finance").json()["active"] == (1 if found["gate"]["passed"] else None)


def test_a_version_before_too_few_questions_is_told_how_many_are_missing(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    upload(tenant, "finance", FINANCE)
    found = evaluated(tenant, "/adapters/finance/versions/1/gate", questions=QUESTIONS, tolerance=100)
    advice = found["gate"]["advice"]
    assert (advice["because"], advice["questions"], advice["even"], advice["likely"]) == ("too_few", 4, 16, 16)
    assert advice["next"] == "POST /adapters/finance/versions/1/gate"
    assert "add 16 or more" in advice["text"]
    report = tenant.get(f"/evaluations/{found['id']}/report", params={"format": "markdown"}).text
    assert f"The candidate did not pass the gate and was not promoted. {advice['text']}" in report


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"questions": []}, "invalid_request"),
        ({"questions": QUESTIONS, "data": []}, "invalid_request"),
        ({"questions": [{"question": " ", "answers": []}]}, "invalid_request"),
        ({"questions": [{"question": "Who?", "answers": [{"text": "x", "start": 3}]}]}, "invalid_request"),
        ({"questions": QUESTIONS, "passages": "given"}, "invalid_question_set"),
        ({"data": [{"paragraphs": [{"context": "x", "qas": [{"answers": []}]}]}]}, "invalid_question_set"),
        ({"data": [{"paragraphs": []}]}, "invalid_question_set"),
        ({"data": ["x"]}, "invalid_question_set"),
        ({"questions": QUESTIONS, "adapter": "nobody"}, "unknown_adapter"),
        ({"questions": QUESTIONS, "template": "nobody"}, "unknown_template"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(
    tenant: httpx.Client, body: dict[str, Any], code: str
) -> None:
    assert_problem(tenant.post("/evaluate", json=body), 404 if code.startswith("unknown") else 422, code)
    assert tenant.get("/jobs").json()["total"] == 0


def test_an_evaluation_can_be_cancelled_and_has_no_report_then(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    started = tenant.post("/evaluate", json={"questions": QUESTIONS * 250})
    assert started.status_code == 202
    cancelled = tenant.post(f"/jobs/{started.json()['job_id']}/cancel").json()
    assert cancelled["state"] == "cancelled"
    found = tenant.get(f"/evaluations/{started.json()['evaluation_id']}").json()
    assert (found["state"], found["ways"][1]["figures"], found["recommendation"]) == ("cancelled", None, None)
    assert_problem(tenant.get(f"/evaluations/{found['id']}/report"), 409, "not_ended")
