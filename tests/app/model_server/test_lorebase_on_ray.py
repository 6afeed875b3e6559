"""A service in front of a model server with two replicas on Ray: the answers of the model in its own process, adapters
that stay where they are, streams, clients that hang up, and a replica that is killed under load.

Run by `make test-ray`; skipped where Ray is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.local_server import LocalServer, free_port, local_server
from examples.small_lm.world import Difficulty, Lesson, draw_lesson
from tests.adapters.test_remote import until
from tests.adapters.tiny_llama import make_lora
from tests.app.model_server.servers import KEY, RunningModelServer, model_server
from tests.app.terminal.console import environment
from tests.app.test_isolation import upload
from tests.app.texts import ask

_HERE = importlib.util.find_spec("ray") is not None
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not _HERE, reason="Ray is not installed: pip install 'lorebase[ray]'"),
]
MODEL = Path(__file__).parents[3] / "examples" / "small_lm"
ADAPTERS = ("amber", "birch", "cedar", "delta")
LOAD_S = 40.0
CLIENTS = 4


@dataclass(frozen=True)
class Stage:
    """The service in front, its client, and the model server behind it."""

    front: LocalServer
    client: httpx.Client
    behind: RunningModelServer

    def replicas(self) -> list[dict[str, Any]]:
        with self.behind.client() as client:
            found: list[dict[str, Any]] = client.get("/replicas").json()["replicas"]
        return found


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("loras")
    return [make_lora(MODEL, folder / name, seed=n, scale=1.0).folder for n, name in enumerate(ADAPTERS, 1)]


@pytest.fixture(scope="module")
def stage(loras: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with model_server(MODEL, folder, "--ray", "--replicas", "2", "--cpus", "0.5") as behind:
        settings = {
            "LOREBASE_MODEL": f"openai:{MODEL.name}",
            "LOREBASE_OPENAI_URL": f"{behind.url}/v1",
            "LOREBASE_OPENAI_KEY": KEY,
        }
        with local_server(environment=settings, data=folder / "data") as front:
            headers = {"Authorization": f"Bearer {front.default_key}"}
            with httpx.Client(base_url=front.url, headers=headers, timeout=120) as client:
                for name, lora in zip(ADAPTERS, loras, strict=True):
                    assert upload(client, name, lora).status_code == 201
                yield Stage(front, client, behind)


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    rng = random.Random(11)
    shape = Difficulty(sources=2, facts=2, wordings=2, absent=0.0, asked=1)
    return [draw_lesson(rng, shape, held_out=True) for _ in range(3)]


def body_of(lesson: Lesson) -> dict[str, Any]:
    passages = [{"title": passage.title, "text": passage.text} for passage in lesson.passages]
    return {"passages": passages, "max_tokens": 24, "min_confidence": 0.0}


def asked(client: httpx.Client, lesson: Lesson, adapter: str) -> tuple[Any, ...]:
    found = ask(client, lesson.asked[0].question, adapter=adapter, **body_of(lesson))
    citations = [(c["index"], c["title"], c["quote"]) for c in found["citations"]]
    return found["answer"], found["abstained"], round(found["confidence"], 2), citations, found["usage"]


def each(lessons: list[Lesson]) -> list[tuple[Lesson, str]]:
    return [(lesson, adapter) for lesson in lessons for adapter in ("base", *(f"{name}@1" for name in ADAPTERS))]


def test_answers_are_those_of_the_model_in_the_services_own_process(
    stage: Stage, loras: list[Path], lessons: list[Lesson]
) -> None:
    behind = [asked(stage.client, *pair) for pair in each(lessons)]
    settings = {"LOREBASE_MODEL": str(MODEL), "LOREBASE_DTYPE": "float32"}
    with local_server(environment=settings) as alone:
        headers = {"Authorization": f"Bearer {alone.default_key}"}
        with httpx.Client(base_url=alone.url, headers=headers, timeout=120) as client:
            for name, lora in zip(ADAPTERS, loras, strict=True):
                assert upload(client, name, lora).status_code == 201
            assert [asked(client, *pair) for pair in each(lessons)] == behind
    assert len({answer[0] for answer in behind}) > len(lessons)  # adapters do say something else


def test_each_adapter_stays_on_its_replica(stage: Stage, lessons: list[Lesson]) -> None:
    for _ in range(4):
        for pair in each(lessons):
            asked(stage.client, *pair)
    held = {replica["id"]: [name.split("/")[-1] for name in replica["resident"]] for replica in stage.replicas()}
    print(f"adapters by replica: {held}")
    assert sorted(name for names in held.values() for name in names) == [f"{name}@1" for name in ADAPTERS]
    assert all(held.values())


def test_an_answer_is_streamed(stage: Stage, lessons: list[Lesson]) -> None:
    lesson = lessons[0]
    body = {"question": lesson.asked[0].question, "stream": True, **body_of(lesson)}
    with stage.client.stream("POST", "/ask", json=body, headers={"X-Adapter": "amber@1"}) as response:
        lines = list(response.iter_lines())
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events.count("token") > 1
    assert events[-1] == "done"


def test_a_client_that_hangs_up_frees_its_row(stage: Stage) -> None:
    chat = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 900, "stream": True}
    left = 0

    def running() -> int:
        return sum(replica["running"] for replica in stage.replicas())

    with stage.behind.client() as client:
        for card in client.get("/v1/models").json()["data"][1:]:
            with client.stream("POST", "/v1/chat/completions", json={**chat, "model": card["id"]}) as response:
                lines = response.iter_lines()  # kept, since its end would close the connection
                assert next(lines)
                left += running()
            until(lambda: running() == 0, 2.0)
    assert left >= 1, "no answer was long enough to be left"


def test_a_killed_replica_costs_no_answer_but_a_503_and_is_replaced(stage: Stage, lessons: list[Lesson]) -> None:
    expected = {pair: asked(stage.client, lessons[pair[0]], pair[1])[0] for pair in keys(lessons)}
    ended, statuses, wrong, unpaced = threading.Event(), list[int](), list[Any](), list[Any]()

    def load(number: int) -> None:
        chance = random.Random(number)
        headers = {"Authorization": f"Bearer {stage.front.default_key}"}
        with httpx.Client(base_url=stage.front.url, headers=headers, timeout=120) as client:
            while not ended.is_set():
                key = chance.choice(list(expected))
                lesson = lessons[key[0]]
                body = {"question": lesson.asked[0].question, **body_of(lesson)}
                response = client.post("/ask", json=body, headers={"X-Adapter": key[1]})
                statuses.append(response.status_code)
                if response.status_code == 200 and response.json()["answer"] != expected[key]:
                    wrong.append((key, response.json()["answer"]))
                if response.status_code != 200:
                    if "retry-after" not in response.headers:
                        unpaced.append(response.text)
                    time.sleep(0.5)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(3.0)
    victim = next(replica for replica in stage.replicas() if replica["resident"])
    killed = time.monotonic()
    os.kill(victim["process"], signal.SIGKILL)
    until(lambda: len(other := stage.replicas()) == 2 and victim["id"] not in {r["id"] for r in other}, 240.0)
    back = time.monotonic() - killed
    time.sleep(max(0.0, LOAD_S - back))
    ended.set()
    for thread in threads:
        thread.join()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(f"answers by status {counts}, wrong {len(wrong)}, two replicas again after {back:.1f} s")
    assert (wrong, unpaced) == ([], [])
    assert set(counts) <= {200, 503}
    assert [asked(stage.client, lessons[pair[0]], pair[1])[0] for pair in expected] == list(expected.values())


def keys(lessons: list[Lesson]) -> list[tuple[int, str]]:
    return [(n, adapter) for n in range(len(lessons)) for adapter in ("base", *(f"{name}@1" for name in ADAPTERS))]


def test_a_model_server_that_is_started_again_takes_up_the_copies_that_are_there(tmp_path: Path) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a token of this test alone, and no other"}
    node = ["-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
            "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=100000000"]  # fmt: skip
    ray = subprocess.Popen([sys.executable, *node], env=environment(**token), stdout=subprocess.DEVNULL)
    arguments = ("--ray", "--ray-address", address, "--replicas", "2", "--cpus", "0.5")

    def copies(killed: bool, *others: str) -> set[int]:
        with model_server(MODEL, tmp_path, *arguments, *others, variables=token) as server:
            with server.client() as client:
                found = {replica["process"] for replica in client.get("/replicas").json()["replicas"]}
            if killed:
                server.process.kill()
        return found

    try:
        until(lambda: listens(port), 60.0)
        first = copies(True)
        assert len(first) == 2
        assert copies(False) == first
        assert copies(False, "--replicas", "1") != first  # another number of them: made anew
    finally:
        ray.terminate()
        ray.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def test_what_ray_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    def refused(*arguments: str, **variables: str) -> str:
        command = [sys.executable, "-m", "app.cli", "model-server", "--model", str(MODEL), "--json", *arguments]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment(**variables), timeout=300, check=False
        )
        assert ran.returncode in (1, 2), ran
        return str(json.loads(ran.stderr.splitlines()[-1])["error"]["detail"])

    nobody = refused("--ray", "--ray-address", "127.0.0.1:1")
    assert "Ray cannot be reached at 127.0.0.1:1" in nobody
    assert "add --ray" in refused("--replicas", "2")
    absent = tmp_path / "ray.py"
    absent.write_text("raise ImportError('as if it were not installed')\n")
    assert "pip install 'lorebase[ray]'" in refused(
        "--ray", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    )
