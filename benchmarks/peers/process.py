"""A peer's process, as the measurement sees it: one order a line, one line of JSON back.

Knows processes; knows nothing of what a peer does.
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
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import REQUIREMENTS, NotInstalled, python_of

OWN = "lorebase"
_ROOT = Path(__file__).parent.parent.parent
_END_SECONDS = 20.0  # that a peer may take to end by itself


class PeerProcess:
    """A peer, getting ready.

    Args:
        job: what it is to do, first of all; see `benchmarks.peers.worker`.
    """

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
        self._send(job)

    def wait(self) -> None:
        """Wait until it is ready; then ``facts`` say what it did.

        Raises:
            NotInstalled: it ended; the message is its last line.
        """
        self.facts = self._answer()

    def order(self, what: Mapping[str, Any]) -> dict[str, Any]:
        """Have something done; what came of it. Raises NotInstalled when the process ends."""
        self._send(what)
        return self._answer()

    def close(self) -> None:
        """Let it end by itself, and what it started with it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()

    def _send(self, what: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: `_answer` says so
            self._process.stdin.write(json.dumps(what) + "\n")
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every measurement beside peers can be told on its command line."""
    parser.add_argument("--environments", type=Path, default=Path("data") / "peers", help="folder of the peers' "
                        "environments (default: data/peers)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the models, the same for all")
    parser.add_argument("--repeats", type=int, help="turns (default: 5, quick: 2)")
    parser.add_argument("--peers", nargs="*", default=list(REQUIREMENTS), choices=list(REQUIREMENTS))
    parser.add_argument("--quick", action="store_true", help="fewer documents and turns, with more noise")


def started(
    stack: ExitStack, peers: Sequence[str], folder: Path, job: Mapping[str, Any], threads: int
) -> tuple[dict[str, PeerProcess], dict[str, str]]:
    """Ourselves and the peers, ready, until ``stack`` ends; and why a peer is absent.

    Raises:
        SystemExit: Lorebase itself fails.
    """
    pythons, absent = {OWN: Path(sys.executable)}, {}
    for peer in peers:
        print(f"environment of {peer} …", file=sys.stderr)
        try:
            pythons[peer] = python_of(peer, folder.absolute())
        except NotInstalled as error:
            absent[peer] = str(error)
    ready = {}
    for peer, process in {
        p: PeerProcess(p, python, job, threads) for p, python in pythons.items()
    }.items():  # all at once
        stack.callback(process.close)
        try:
            process.wait()
        except NotInstalled as error:
            absent[peer] = str(error)
        else:
            ready[peer] = process
    if OWN in absent:
        raise SystemExit(f"Lorebase itself could not be measured: {absent[OWN]}")
    return ready, absent
