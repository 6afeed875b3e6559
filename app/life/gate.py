"""The gate before a promotion: a candidate serves only when it is better than what there is, and forgets nothing.

It must beat the base and the active version on the tenant's questions by a margin that lies outside the paired
interval, and must not be worse than the base on a general set that comes with the service. The decision is a function
of the outcomes; what follows from it is recorded, passed or not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.life.advice import FEWEST_QUESTIONS, Advice, advise
from app.life.comparison import TITLES, Asked, Difference, difference, difference_json
from app.life.evaluations import Evaluation
from app.life.gates import GateResult
from app.life.question_sets import MOST_QUESTIONS, Item, from_squad

if TYPE_CHECKING:
    from app.workspace import Workspace

GENERAL_SET = Path(__file__).parent / "general_set.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided. ``reasons``: a sentence for each condition, those that failed first. ``advice``: what to
    do about a version that is held back."""

    passed: bool
    reasons: tuple[str, ...]
    general: Difference | None
    advice: Advice | None


@cache
def general_set() -> tuple[Item, ...]:
    """The questions every candidate must still answer, each with its own paragraph."""
    return tuple(from_squad(json.loads(GENERAL_SET.read_bytes())["data"]))


def decide(outcomes: Mapping[str, Mapping[str, Sequence[Asked]]], margin: float, tolerance: float) -> Verdict:
    """Whether the candidate may serve.

    Args:
        outcomes: by set (``questions``, ``general``) and way (``base``, ``candidate``, and ``active`` where there is
            such a version).
        margin: F1 points it must be better by, beyond chance.
        tolerance: F1 points it may lose on the general set.
    """
    failed: list[str] = []
    held: list[str] = []
    unbeaten: list[Difference] = []
    asked = outcomes["questions"]
    for rival in ("base", "active"):
        if rival not in asked:
            continue
        found = difference("candidate", rival, asked)
        told = (
            f"On the {len(asked[rival])} questions it is {_points(found.f1)} than the {TITLES[rival]} "
            f"(95 % interval {found.low:.1f} to {found.high:.1f})"
        )
        if found.low > margin:
            held.append(f"{told}, above the margin of {margin:g}.")
        else:
            unbeaten.append(found)
            failed.append(f"{told}: the interval must lie above {margin:g}.")
    if len(asked["candidate"]) < FEWEST_QUESTIONS:
        failed.append(f"{len(asked['candidate'])} questions are too few to decide by; {FEWEST_QUESTIONS} are needed.")
    general = difference("candidate", "base", outcomes["general"]) if "general" in outcomes else None
    forgets = general is not None and (general.high < 0 or general.f1 < -tolerance)
    if general is not None:
        told = (
            f"On the {len(outcomes['general']['base'])} questions of the general set it is {_points(general.f1)} than "
            f"the base (95 % interval {general.low:.1f} to {general.high:.1f})"
        )
        if forgets:
            failed.append(f"{told}: it has forgotten; {tolerance:g} points may be lost, and no more than by chance.")
        else:
            held.append(f"{told}.")
    advice = advise(len(asked["candidate"]), unbeaten, margin, forgets=forgets, most=MOST_QUESTIONS)
    return Verdict(not failed, (*failed, *held), general, advice)


def conclude(
    workspace: Workspace, evaluation: Evaluation, outcomes: Mapping[str, Mapping[str, Sequence[Asked]]]
) -> dict[str, Any]:
    """Decide over the candidate of an evaluation, record it, and promote it where that was asked for.

    Raises:
        UnknownAdapter: the version was deleted meanwhile.
        VersionTainted: a document it was trained on was erased meanwhile, and it may not serve.
    """
    asked = evaluation.plan.gate or {}
    name, version = asked["adapter"], asked["version"]
    workspace.erasures.choose(f"{name}@{version}")
    verdict = decide(outcomes, asked["margin"], asked["tolerance"])
    reasons = list(verdict.reasons)
    promoted = verdict.passed and asked["promote"]
    if promoted and workspace.adapters.get(name).active not in (asked["active"], version):
        promoted = False
        reasons.insert(0, "Another version was promoted meanwhile, so this one was not: ask the gate again.")
    if promoted:
        workspace.adapters.promote(name, version)
    advice = None if verdict.advice is None else asdict(verdict.advice)
    workspace.gates.add(
        GateResult(name, version, evaluation.id, verdict.passed, promoted, reasons, time.time(), advice)
    )
    return {
        "gate": {"passed": verdict.passed, "promoted": promoted, "reasons": reasons, "advice": advice},
        "general": None if verdict.general is None else difference_json(verdict.general),
    }


def _points(gain: float) -> str:
    return f"{abs(gain):.1f} F1 points {'better' if gain >= 0 else 'worse'}"
