"""The official `openai` client uploads a file, trains on it, follows the job and asks what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from app.local_server import LocalServer
from tests.app.test_training_over_http import send_towns, town_lines

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(server: LocalServer, tenant: httpx.Client) -> Iterator[openai.OpenAI]:
    key = tenant.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def chat_lines() -> bytes:
    """The questions on the towns, in OpenAI's chat format."""
    lines = []
    for line in map(json.loads, town_lines().splitlines()):
        said = [("system", "Be brief."), ("user", line["question"]), ("assistant", line["answer"])]
        lines.append({"messages": [{"role": role, "content": text} for role, text in said]})
    return "\n".join(map(json.dumps, lines)).encode()


def test_a_file_becomes_a_model_that_answers(client: openai.OpenAI, tenant: httpx.Client) -> None:
    send_towns(tenant)
    file = client.files.create(file=("towns.jsonl", chat_lines()), purpose="fine-tune")
    assert (file.object, file.filename, file.purpose, file.status) == ("file", "towns.jsonl", "fine-tune", "processed")
    job = client.fine_tuning.jobs.create(
        model="base",
        training_file=file.id,
        suffix="towns",
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        metadata={"for": "the towns"},
    )
    assert (job.object, job.training_file, job.fine_tuned_model) == ("fine_tuning.job", file.id, None)
    assert job.status in ("queued", "running")
    assert (job.seed, job.hyperparameters.n_epochs, job.metadata) == (7, 1, {"for": "the towns"})
    deadline = time.monotonic() + 300
    while job.status in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.error, job.fine_tuned_model) == ("succeeded", None, "towns@1")
    assert job.finished_at is not None
    assert [each.id for each in client.fine_tuning.jobs.list()] == [job.id]
    told = list(client.fine_tuning.jobs.list_events(job.id, limit=3))  # pages of three, newest first
    assert "Made towns@1." in told[0].message
    assert told[-1].message.startswith("Asked for")
    assert len({each.id for each in told}) == len(told) > 3
    assert any(each.type == "metrics" and each.data for each in told)
    done = client.chat.completions.create(
        model=str(job.fine_tuned_model), messages=[{"role": "user", "content": "Who leads Nameford 3?"}]
    )
    assert done.model == "towns@1"
    assert client.fine_tuning.jobs.cancel(job.id).status == "succeeded", "what has ended stays"


def test_a_running_job_is_cancelled_and_makes_no_model(client: openai.OpenAI, tenant: httpx.Client) -> None:
    send_towns(tenant)
    file = client.files.create(file=("towns.jsonl", chat_lines()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="base", training_file=file.id, suffix="towns", hyperparameters={"n_epochs": 500}
    )
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert tenant.get("/adapters").json()["adapters"] == []


def test_files_are_the_tenants_data_sets(
    client: openai.OpenAI, tenant: httpx.Client, other_tenant: httpx.Client
) -> None:
    first = client.files.create(file=("towns.jsonl", town_lines()), purpose="fine-tune")
    second = client.files.create(file=("chats.jsonl", chat_lines()), purpose="fine-tune")
    assert first.id == second.id, "the same examples, whatever format they came in"
    third = client.files.create(file=("few.jsonl", town_lines().splitlines()[0]), purpose="fine-tune")
    assert "refused" in (client.files.retrieve(third.id).status_details or "")
    assert [each.id for each in client.files.list(limit=1)] == [third.id, first.id], "page after page"
    assert [each.id for each in client.files.list(order="asc")] == [first.id, third.id]
    assert tenant.get("/datasets").json()["total"] == 2
    kept = client.files.content(first.id).text.splitlines()
    assert json.loads(kept[0])["answers"] == ["120 metres"]
    assert client.files.delete(third.id).deleted
    for unknown in (third.id, "file-nothing"):
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(unknown)
    assert other_tenant.get(f"/v1/files/{first.id}").status_code == 404
    assert other_tenant.get("/v1/files").json()["data"] == []


def test_what_cannot_be_held_is_refused_in_openais_shape_before_anything_is_queued(
    client: openai.OpenAI, tenant: httpx.Client
) -> None:
    file = client.files.create(file=("towns.jsonl", town_lines()), purpose="fine-tune")
    good: dict[str, Any] = {"model": "base", "training_file": file.id, "suffix": "towns"}
    for changed, status, said in (
        ({"training_file": "file-nothing"}, 404, "no such data set"),
        ({"model": "gpt-4o"}, 404, "GET /v1/models"),
        ({"suffix": None}, 422, "names the adapter"),
        ({"suffix": "No Name"}, 422, "a-z"),
        ({"validation_file": file.id}, 422, "gate"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, 422, "leaves this machine"),
        ({"method": {"type": "reinforcement"}}, 422, "'supervised' or 'dpo'"),
        ({"method": {"type": "dpo"}}, 422, "dpo"),
        ({"hyperparameters": {"n_epochs": 0}}, 422, "greater than 0"),
        ({"extra_body": {"lorebase": {"rank": 257}}}, 422, "256"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            client.fine_tuning.jobs.create(**{**good, **changed})
        assert refused.value.status_code == status, refused.value
        assert said in refused.value.message, refused.value.message
    assert tenant.get("/jobs").json()["total"] == 0
    for content, purpose, said in (
        (b"", "fine-tune", "no example"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "fine-tune", "line 1, field 'messages'"),
        (b'{"messages": [{"role": "user", "content": "Why?"}]}', "fine-tune", "line 1, field 'answer'"),
        (town_lines(), "batch", "'fine-tune'"),
    ):
        with pytest.raises(openai.UnprocessableEntityError, match=said):
            client.files.create(file=("set.jsonl", content), purpose=purpose)
