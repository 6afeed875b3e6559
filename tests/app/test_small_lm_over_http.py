"""A real server over the small language model this project pretrains: answers, citations, abstentions and preferences
that mean something, through the same path as any other model's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer, local_server
from examples.small_lm.world import Difficulty, Lesson, draw_lesson
from tests.adapters.test_remote import serving
from tests.app.terminal.console import lorebase
from tests.app.test_training_over_http import send_set, wait_for
from tests.app.texts import ask, assert_problem

pytestmark = [pytest.mark.e2e, pytest.mark.model]
MODEL = Path(__file__).parents[2] / "examples" / "small_lm"
MANNER = "It is"


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    """The address of a model server that judges, and can be told to fail."""
    with serving("tests.adapters.misbehaving_server", probe="/seen") as url:
        yield url


@pytest.fixture(scope="module")
def server(judge: str) -> Iterator[LocalServer]:
    judging = {"LOREBASE_JUDGE": "openai:judge", "LOREBASE_JUDGE_URL": f"{judge}/v1"}
    with local_server(environment={"LOREBASE_MODEL": str(MODEL), **judging}) as running:
        yield running


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.default_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    """About buildings that pretraining never named, of different names."""
    rng = random.Random(4)
    drawn: dict[str, Lesson] = {}
    while len(drawn) < 12:
        lesson = draw_lesson(rng, Difficulty(sources=1, facts=3, wordings=3, absent=0.0, asked=1), held_out=True)
        drawn.setdefault(lesson.entities[0], lesson)
    return list(drawn.values())


def send(client: httpx.Client, lessons: list[Lesson]) -> None:
    documents = [{"title": lesson.entities[0], "text": lesson.passages[0].text} for lesson in lessons]
    response = client.post("/ingest", params={"wait": "true"}, json={"documents": documents})
    assert response.status_code == 200, response.text


def test_it_answers_from_ingested_documents_and_cites_the_one_that_holds_the_answer(
    client: httpx.Client, lessons: list[Lesson]
) -> None:
    send(client, lessons)
    right = cited = 0
    for lesson in lessons:
        (asked,) = lesson.asked
        answered = ask(client, asked.question, top_k=3)
        right += asked.value in answered["answer"]
        cited += [c["title"] for c in answered["citations"]] == [lesson.entities[0]]
    assert right >= 9, f"{right} of {len(lessons)} right"
    assert cited >= 9, f"{cited} of {len(lessons)} cited"


@pytest.mark.long
def test_a_manner_that_a_judge_prefers_gains_by_dpo(client: httpx.Client) -> None:
    """RLAIF end to end: sampled answers, a judge's pairs, a training on them, and what the adapter then says."""
    rng = random.Random(5)
    drawn = [draw_lesson(rng, Difficulty(sources=2, facts=2, wordings=2, absent=0.0, asked=1)) for _ in range(60)]
    questions = "\n".join(json.dumps(question_of(lesson)) for lesson in drawn)
    assert send_set(client, questions.encode(), "questions").status_code == 201
    body: dict[str, Any] = {"dataset": "questions", "judge": {"begins_with": MANNER}, "name": "preferred", "samples": 6}
    started = client.post("/datasets/judge", json=body)
    assert started.status_code == 202, started.text
    job = wait_for(client, started.json()["id"], "succeeded", "failed")
    assert job["error"] is None
    assert job["result"]["examples"] >= 20
    pairs = [json.loads(line) for line in client.get("/datasets/preferred/examples").text.splitlines()]
    assert all(p["answers"][0].startswith(MANNER) and not p["rejected"].startswith(MANNER) for p in pairs)
    assert client.get("/datasets/preferred").json()["source"] == "judged"
    training = {
        "dataset": "preferred", "objective": "dpo", "targets": "all", "epochs": 5, "learning_rate": 3e-3,
        "batch_size": 8,
    }  # fmt: skip
    job = wait_for(client, client.post("/adapters/polite/train", json=training).json()["id"], "succeeded", "failed")
    assert job["error"] is None
    held_out = [draw_lesson(rng, Difficulty(sources=1, facts=2, absent=0.0, asked=1), held_out=True) for _ in range(10)]
    before, after = (
        sum(said(client, lesson, adapter).startswith(MANNER) for lesson in held_out) for adapter in ("base", "polite@1")
    )
    assert after >= before + 5, f"{before} before, {after} after, of {len(held_out)}"


def test_a_model_server_judges_and_its_pairs_are_kept_from_the_terminal(
    client: httpx.Client, server: LocalServer, judge: str
) -> None:
    place = {"LOREBASE_URL": server.url, "LOREBASE_KEY": server.default_key}
    rng = random.Random(6)
    drawn = [draw_lesson(rng, Difficulty(sources=2, facts=2, wordings=2, absent=0.0, asked=1)) for _ in range(15)]
    send_set(client, "\n".join(json.dumps(question_of(lesson)) for lesson in drawn).encode(), "to-judge")
    wanted = ["--standard", f'Begins with "{MANNER}".', "--samples", "6", "--name", "judged-there"]
    told = lorebase("dataset", "judge", "to-judge", *wanted, "--json", **place).json["result"]
    assert (told["questions_tried"], told["unjudged"]) == (15, 0)
    pairs = [json.loads(line) for line in client.get("/datasets/judged-there/examples").text.splitlines()]
    assert len(pairs) == told["examples"] > 0
    assert all(p["answers"][0].startswith(MANNER) and not p["rejected"].startswith(MANNER) for p in pairs)
    httpx.get(f"{judge}/down")
    try:
        away = lorebase("dataset", "judge", "to-judge", "--standard", "Any.", "--name", "none", **place)
    finally:
        httpx.get(f"{judge}/up")
    assert away.code == 1
    assert "The judge cannot be asked: The model server failed (500: the GPU fell off)" in away.error
    assert_problem(client.get("/datasets/none"), 404, "not_found")
    unsaid = lorebase("dataset", "judge", "to-judge", **place)
    assert (unsaid.code, "--rule, --begins-with and --standard" in unsaid.error) == (2, True)


def question_of(lesson: Lesson) -> dict[str, Any]:
    passages = [{"title": passage.title, "text": passage.text} for passage in lesson.passages]
    return {"question": lesson.asked[0].question, "answer": lesson.asked[0].value, "passages": passages}


def said(client: httpx.Client, lesson: Lesson, adapter: str) -> str:
    passages = [{"title": passage.title, "text": passage.text} for passage in lesson.passages]
    answered = ask(client, lesson.asked[0].question, adapter=adapter, passages=passages)
    return str(answered["answer"])


def test_what_cannot_be_judged_is_refused_before_anything_is_queued(client: httpx.Client) -> None:
    judge = {"rule": "short"}
    assert_problem(client.post("/datasets/judge", json={"dataset": "none", "judge": judge}), 404, "not_found")
    send_set(client, b'{"question": "What is it?", "answer": "a tower", "passage": "A tower."}', "one")
    for body, status, code in (
        ({"dataset": "one", "judge": {"rule": "loud"}}, 422, "invalid_request"),
        ({"dataset": "one", "judge": {}}, 422, "invalid_request"),
        ({"dataset": "one"}, 422, "invalid_request"),
        ({"dataset": "one", "judge": judge, "name": "No Name"}, 422, "invalid_dataset_name"),
        ({"dataset": "one", "judge": judge, "adapter": "nobody"}, 404, "unknown_adapter"),
    ):
        assert_problem(client.post("/datasets/judge", json=body), status, code)
