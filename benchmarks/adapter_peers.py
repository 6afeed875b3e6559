"""Requests of several adapters at once, beside llama.cpp's server: `make bench NAME=adapter_peers`.

Our model server and llama.cpp's, each a process of its own on the same random weights and LoRA adapters, in 32-bit
numbers, asked by HTTP, turn by turn in one run: eight requests at once of the base, of one adapter, and of eight
different ones. Prompts are new in every turn, so that neither has read one before. Answers are compared too: both
choose the likeliest token, so they are to be the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx

from adapters import AdapterRef
from app.local_server import free_port
from benchmarks.language_models import Shape, make_prompts, save_adapters, save_model, shapes, text_of
from benchmarks.measure import Spread, interleaved, report, timed
from benchmarks.peers.environments import LLAMACPP, NotInstalled, python_of
from benchmarks.peers.process import PeerProcess

_ROWS, _IN, _OUT, _RANK = 8, 400, 32, 8
_CONTEXT = 512  # tokens of a row, for llama.cpp, which shares out a fixed number
_START_S = 120.0
_LOADS: dict[str, Sequence[int | None]] = {
    "base": [None] * _ROWS, "one adapter": [0] * _ROWS, "eight adapters": list(range(_ROWS)),
}  # fmt: skip


class Server(Protocol):
    """A server with adapters, by number."""

    def answer(self, prompt: Sequence[int], adapter: int | None) -> list[int]:
        """Ids of the tokens that follow a prompt."""


class Ours:
    """`lorebase model-server`, by vLLM's API."""

    def __init__(self, url: str, model: str, adapters: Sequence[AdapterRef]) -> None:
        self._client, self._model = httpx.Client(base_url=url, timeout=600), model
        for number, ref in enumerate(adapters):
            named = {"lora_name": f"adapter-{number}", "lora_path": str(ref.folder)}
            self._client.post("/v1/load_lora_adapter", json=named).raise_for_status()

    def answer(self, prompt: Sequence[int], adapter: int | None) -> list[int]:
        body = {
            "model": self._model if adapter is None else f"adapter-{adapter}", "max_tokens": _OUT, "temperature": 0,
            "messages": [{"role": "user", "content": text_of(prompt)}],
        }  # fmt: skip
        sent = self._client.post("/v1/chat/completions", json=body).raise_for_status().json()
        words: str = sent["choices"][0]["message"]["content"]
        return [int(word.removeprefix("w")) for word in words.split()]


class LlamaCpp:
    """llama.cpp's server, by the ``lora`` of its own ``/completion``."""

    def __init__(self, url: str, adapters: int) -> None:
        self._client, self._adapters = httpx.Client(base_url=url, timeout=600), adapters

    def answer(self, prompt: Sequence[int], adapter: int | None) -> list[int]:
        # Without any it applies what it was started with, which is all of them: so every scale is said.
        scales = [{"id": number, "scale": float(number == adapter)} for number in range(self._adapters)]
        body = {"prompt": prompt, "n_predict": _OUT, "temperature": 0, "lora": scales, "return_tokens": True}
        tokens: list[int] = self._client.post("/completion", json=body).raise_for_status().json()["tokens"]
        return tokens


@contextmanager
def our_server(model: Path, adapters: Path, threads: int) -> Iterator[str]:
    """Our model server; its URL. Raises SystemExit when it does not start."""
    port, log = free_port(), adapters / "model-server.log"
    settings = {"LOREBASE_DTYPE": "float32", "OMP_NUM_THREADS": str(threads), "LOREBASE_LOG_LEVEL": "warning",
                "LOREBASE_DATA": str(adapters), "LOREBASE_MAX_BATCH": str(_ROWS)}  # fmt: skip
    command = ["-m", "app.cli", "model-server", "--model", str(model), "--adapters", str(adapters), "--port", str(port)]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, *command], env={**os.environ, **settings}, stdout=written, stderr=subprocess.STDOUT
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _START_S
    try:
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"our model server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def at_once(server: Server, prompts: Sequence[Sequence[int]], adapters: Sequence[int | None]) -> list[list[int]]:
    """Answers of requests that are all sent at once."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(server.answer, prompts, adapters))


def measure(shape: Shape, python: Path, threads: int, turns: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of every way, turn by turn; and by load the part of answers that are the same of both.

    Raises:
        NotInstalled: llama.cpp's server did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorebase-bench-")))
        model = save_model(shape, folder / "model")
        adapters = save_adapters(model, folder, count=_ROWS, rank=_RANK)
        job = {"model": str(model), "adapters": [str(ref.folder) for ref in adapters], "rows": _ROWS,
               "context": _CONTEXT, "threads": threads}  # fmt: skip
        peer = PeerProcess("llamacpp", python, job, threads)
        stack.callback(peer.close)
        url = stack.enter_context(our_server(model, folder, threads))
        peer.wait()
        servers: dict[str, Server] = {
            "ours": Ours(url, httpx.get(f"{url}/v1/models").json()["data"][0]["id"], adapters),
            "llama.cpp": LlamaCpp(peer.facts["url"], len(adapters)),
        }
        seeds = iter(range(1, 1_000_000))  # prompts that no turn had before

        def work(name: str, load: str) -> float:
            prompts = make_prompts(shape, [_IN] * _ROWS, seed=next(seeds))
            return timed(lambda: at_once(servers[name], prompts, _LOADS[load]))

        same = {}
        for load, chosen in _LOADS.items():  # the first calls, which make buffers too
            prompts = make_prompts(shape, [_IN] * _ROWS, seed=next(seeds))
            mine, others = (at_once(server, prompts, chosen) for server in servers.values())
            if any(len(answer) != _OUT for answer in (*mine, *others)):
                raise SystemExit(f"an answer has not {_OUT} tokens")
            same[load] = sum(a == b for a, b in zip(mine, others, strict=True)) / _ROWS
        ways: dict[str, Callable[[], float]] = {
            f"{name}, {load}": partial(work, name, load) for load in _LOADS for name in servers
        }
        return interleaved(ways, turns), same


def result_of(seconds: dict[str, list[float]], same: dict[str, float]) -> dict[str, Any]:
    """Throughputs as ratios, turn against turn."""

    def ratio(way: str, other: str) -> float:
        return round(Spread.of([b / a for a, b in zip(seconds[way], seconds[other], strict=True)]).median, 3)

    return {
        "base_vs_llamacpp": ratio("ours, base", "llama.cpp, base"),
        "one_vs_llamacpp": ratio("ours, one adapter", "llama.cpp, one adapter"),
        "eight_vs_llamacpp": ratio("ours, eight adapters", "llama.cpp, eight adapters"),
        "eight_vs_base": ratio("ours, eight adapters", "ours, base"),
        "llamacpp_eight_vs_base": ratio("llama.cpp, eight adapters", "llama.cpp, base"),
        "per_s": {way: round(_ROWS / Spread.of(taken).median, 2) for way, taken in seconds.items()},
        "same_answers": same,
    }


def main() -> None:
    """Run the measurement."""
    known = shapes()
    llamas = [name for name, shape in known.items() if shape.config.model_type == "llama"]
    parser = argparse.ArgumentParser(description="Requests of several adapters at once, beside llama.cpp's server.")
    parser.add_argument("--quick", action="store_true", help="less than a minute: a 3M model")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 3)")
    parser.add_argument("--models", nargs="*", choices=llamas, help="(default: 20M and 135M)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each server")
    parser.add_argument("--environments", type=Path, default=Path("data") / "peers", help="folder of the peers' "
                        "environments (default: data/peers)")  # fmt: skip
    given = parser.parse_args()
    turns = given.repeats or (3 if given.quick else 5)
    lines: list[tuple[str, str, str]] = []
    models: dict[str, Any] = {}
    try:
        python = python_of(LLAMACPP, given.environments.absolute())
        for name in given.models or (["3M"] if given.quick else ["20M", "135M"]):
            seconds, same = measure(known[name], python, given.threads, turns)
            models[name] = result_of(seconds, same)
            lines += [(f"{name}: {way}", str(Spread.of(taken)), "s") for way, taken in seconds.items()]
    except NotInstalled as error:
        raise SystemExit(f"llama.cpp's server could not be measured: {error}") from error
    first = models[next(iter(models))]
    report(
        f"{_ROWS} requests at once by HTTP, {_IN} tokens in, {_OUT} out, rank {_RANK} on q and v, {turns} turns",
        lines,
        "To reach: 1 x llama.cpp's server with eight adapters at once.",
        {**first, "models": models, "threads": given.threads, "turns": turns},
    )


if __name__ == "__main__":
    main()
