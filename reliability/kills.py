"""A server dies by SIGKILL right before and right behind each durable step it takes, and at random moments.

One telling of the story names the steps; then each is a round: a fresh data folder, the story until the server dies, a
start, and everything is held against what was answered. In a part of the rounds it dies again while it recovers.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from app.local_server import free_port, local_server
from reliability.durable_steps import ANY, Kill, Step, read_steps, start
from reliability.outcome import Outcome
from reliability.story import Story

_PATIENCE_S = 120.0
_READY_S = 10.0
_DYING_S = 30.0
_RECOVERY_STEPS = 12  # within so many steps a server that recovers is killed again, if it takes them
_AGAIN = 0.25  # of the rounds
_ALIKE = 3  # times that a training does the same, beyond what the story does without it: it reports often
_MOMENTS_FIRST = 20
_ABOUT_STEPS, _ABOUT_SECONDS = 200, 2.0  # of a story without a training, where none was rehearsed
_OFTEN = {"LOREBASE_TRAINING_CHECKPOINT_SECONDS": "0.01"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """One round.

    Attributes:
        kill: the step to die at; None: at a moment.
        train: whether the story goes on to a training.
        moment: seconds after the story's beginning.
        texts: decides the story's texts.
    """

    kill: Kill | None
    train: bool
    moment: float = 0.0
    texts: int = 0

    def __str__(self) -> str:
        where = f"{self.moment:.3f} s" if self.kill is None else f"{self.kill.when} {self.kill.step}"
        return f"killed at {where}{', training' if self.train else ''}"


def run(
    *,
    seed: int = 1,
    steps: int | None = None,
    moments: int = 60,
    train: bool = True,
    fresh_s: float = 300.0,
    minutes: float = 40.0,
) -> Outcome:
    """Kill a server, again and again.

    Args:
        steps: at so many steps that the seed chooses, without a rehearsal; None: before and behind every one.
        moments: kills at random moments.
        train: whether the story has a training in it too.
        fresh_s: after so many seconds each the time to be ready is taken of a server started from nothing.
        minutes: no round begins after so many. Every function that takes steps has its turn before any has a second.
    """
    outcome, chance = Outcome(), random.Random(seed)
    outcome.figures |= dict.fromkeys(("kills", "kills_in_recovery", "kills_not_reached"), 0)
    with tempfile.TemporaryDirectory(prefix="lorebase-kills-") as folder:
        root = Path(folder)
        plans = _every_step(root, outcome, train) if steps is None else [_some_step(chance) for _ in range(steps)]
        for number in range(moments):
            seconds = outcome.figures.get("story_s", _ABOUT_SECONDS)
            trains = train and number % 4 == 0
            longest = outcome.figures.get("story_with_training_s", seconds) if trains else seconds
            plans.append(_Plan(None, trains, chance.uniform(0, longest), chance.getrandbits(32)))
        outcome.figures["planned"] = len(plans)
        began = fresh = time.monotonic()
        for number, plan in enumerate(_in_turn(plans, chance)):
            if time.monotonic() - began > 60 * minutes:
                break
            data = root / f"round-{number}" / "data"
            _round(data, plan, outcome, chance)
            if time.monotonic() - fresh > fresh_s:
                _start_from_nothing(data, outcome)
                fresh = time.monotonic()
            print(f"{number + 1} of {len(plans)}: {plan}; {outcome.failed} failed", file=sys.stderr, flush=True)
            shutil.rmtree(data.parent)
    outcome.check(outcome.figures["kills"], "nothing was killed: this row could not fail")
    return outcome


def _every_step(root: Path, outcome: Outcome, train: bool) -> list[_Plan]:
    """A round right before and one right behind each step there is; those that only a training takes come with one."""
    plans, known, times = [], set[Step](), Counter[str]()
    for training in (False, True) if train else (False,):
        told, seconds = _rehearse(root / f"rehearsal-{training}", outcome, training)
        outcome.figures["story_with_training_s" if training else "story_s"] = round(seconds, 1)
        new = [step for step in told if step not in known and (not training or step.count - times[step.name] <= _ALIKE)]
        plans += [_Plan(Kill(step, when), training) for step in new for when in ("before", "behind")]
        known.update(new)
        times.update(step.name for step in told)
    outcome.figures |= {"steps": len(known), "functions": len({step.name for step in known})}
    return plans


def _some_step(chance: random.Random) -> _Plan:
    return _Plan(Kill(Step(ANY, chance.randint(1, _ABOUT_STEPS)), chance.choice(("before", "behind"))), train=False)


def _in_turn(plans: list[_Plan], chance: random.Random) -> list[_Plan]:
    """The plans by chance, but first one of each function and a few moments; last the others that train, which takes
    longest."""
    chance.shuffle(plans)
    turns: Counter[object] = Counter()
    order: list[list[_Plan]] = [[], [], []]
    for plan in plans:
        who = plan.kill and (plan.kill.step.name, plan.train or plan.kill.when)
        turns[who] += 1
        is_first = turns[who] <= (1 if who else _MOMENTS_FIRST)
        order[0 if is_first else 2 if plan.train else 1].append(plan)
    return [plan for some in order for plan in some]


def _rehearse(folder: Path, outcome: Outcome, train: bool) -> tuple[list[Step], float]:
    """The steps of a story that nothing interrupts, and the seconds it takes from its beginning."""
    data, names = folder / "data", folder / "steps"
    story = Story(data, random.Random(0))
    with _serving(data, names=names) as (process, url):
        _wait_until_ready(process, url)
        began = time.monotonic()
        story.tell(url, train)
        seconds = time.monotonic() - began
        _stop(process)
    steps = read_steps(names)
    with _serving(data) as (process, url):
        _wait_until_ready(process, url)
        wrong = story.check(url)
        outcome.check(not wrong, f"without a kill: {wrong}")
    return steps, seconds


def _round(data: Path, plan: _Plan, outcome: Outcome, chance: random.Random) -> None:
    story = Story(data, random.Random(plan.texts))
    with _serving(data, kill=plan.kill) as (process, url):
        if _wait_until_ready(process, url):
            timer = threading.Timer(plan.moment, os.kill, (process.pid, signal.SIGKILL))
            if plan.kill is None:
                timer.start()
            try:
                story.tell(url, plan.train)
                _stop(process)
            except httpx.TransportError as error:
                process.join(_DYING_S)
                outcome.check(process.exitcode is not None, f"{plan}: no answer, and not dead: {error!r}")
            except httpx.HTTPStatusError as error:
                outcome.check(False, f"{plan}: {error} {error.response.text[:300]}")
            timer.cancel()
        outcome.figures["kills" if process.exitcode == -signal.SIGKILL else "kills_not_reached"] += 1
    deaths = 1
    if chance.random() < _AGAIN:
        again = Kill(Step(ANY, chance.randint(1, _RECOVERY_STEPS)), chance.choice(("before", "behind")))
        with _serving(data, kill=again) as (process, url):
            if _wait_until_ready(process, url):
                process.join(chance.uniform(0, 0.5))
            process.kill()
            process.join()
            deaths = 2
        outcome.figures["kills_in_recovery"] += 1
    with _serving(data) as (process, url):
        if outcome.check(_wait_until_ready(process, url), f"{plan}: not ready again: {_last_words(data)}"):
            try:
                wrong = story.check(url, deaths)
            except (httpx.HTTPError, sqlite3.Error, OSError, ValueError, KeyError) as error:
                wrong = [f"what is there cannot be looked at: {error!r}: {_last_words(data)}"]
            outcome.check(not wrong, f"{plan}: {wrong}")


@contextmanager
def _serving(data: Path, *, kill: Kill | None = None, names: Path | None = None) -> Iterator[tuple[BaseProcess, str]]:
    """A server on a data folder, and its address; killed at the end if it still runs."""
    data.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {"LOREBASE_DATA": str(data), "LOREBASE_HOST": "127.0.0.1", "LOREBASE_PORT": str(port),
                "LOREBASE_LOG_LEVEL": "warning", **_OFTEN}  # fmt: skip
    process = start(settings, _log_of(data), names, kill)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join()


def _wait_until_ready(process: BaseProcess, url: str) -> bool:
    """Whether a server became ready, rather than died."""
    deadline = time.monotonic() + _PATIENCE_S
    with httpx.Client(base_url=url) as client:
        while process.exitcode is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    return True
            time.sleep(0.02)
    return False


def _stop(process: BaseProcess) -> None:
    process.terminate()
    process.join(_PATIENCE_S)


def _start_from_nothing(data: Path, outcome: Outcome) -> None:
    """The time that `lorebase serve` takes to be ready on what a kill has left: by the clock, and of the processor,
    which other work on this machine does not lengthen."""
    began = time.monotonic()
    with local_server(data=data) as server:
        outcome.largest("ready_s", time.monotonic() - began)
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        outcome.largest("ready_processor_s", seconds)
        outcome.check(seconds < _READY_S, f"ready after {seconds} s of the processor")


def _log_of(data: Path) -> Path:
    return data.with_name("log")


def _last_words(data: Path) -> str:
    return _log_of(data).read_text(errors="replace")[-1500:]
