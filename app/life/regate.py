"""The gate for a version that was trained again after an erasure: on the questions its forerunner was asked, without
the forerunner itself, which is to go and knew more.

Knows evaluations, held-out sets and plans; what the gate decides is `app.life.gate`.
"""

from __future__ import annotations

import uuid
from functools import partial

from adapters import BASE, AdapterVersion
from app.answer_metrics import Gold
from app.dataset_build import held_out_name
from app.datasets import UnknownDataset
from app.life.evaluations import AskedSet, Plan, TooManyEvaluations, Way
from app.life.gate import general_set
from app.life.gates import MARGIN, TOLERANCE
from app.life.question_sets import Item
from app.tasks import TooManyTasks
from app.workspace import Workspace

_MOST_WAITING = 100
_NAMESPACE = uuid.UUID("6f1d7c1e-5a1b-4c53-9d0e-6d8a6a1f0b7e")


def gate_again(workspace: Workspace, name: str, made: AdapterVersion, replaces: int) -> str | None:
    """Queue the gate for a version that is to take another's place; the evaluation's id. Asked again after a crash, it
    is the one that is there.

    None, with the reason in the adapter's history: there are no questions to ask.
    """
    assert made.lineage is not None  # noqa: S101 - it was trained here
    evaluation_id = uuid.uuid5(_NAMESPACE, str(made.lineage.job_id)).hex
    if workspace.evaluations.get(evaluation_id) is not None:
        return evaluation_id
    asked, plan = _questions(workspace, name, made, replaces)
    if not asked.items:
        told = (
            f"{name}@{made.version} was trained to take the place of {name}@{replaces}, and no questions are known to "
            f"decide by: POST /adapters/{name}/versions/{made.version}/gate with a question set."
        )
        workspace.adapters.note(name, "not_retrained", replaces, told)
        return None
    sets = [asked, AskedSet("general", general_set(), "given")]
    title = f"gate of {name}@{made.version}"
    store = partial(workspace.evaluations.add, evaluation_id, "gate", title, plan, sets)
    request = {"evaluation_id": evaluation_id, "name": title}
    total = sum(len(each.items) for each in sets) * len(plan.ways)
    try:
        workspace.tasks.add("gate", request, "answers", _MOST_WAITING, total=total, also=store)
    except (TooManyTasks, TooManyEvaluations) as error:
        workspace.adapters.note(name, "not_retrained", replaces, f"{name}@{made.version} waits for its gate: {error}")
        return None
    return evaluation_id


def _questions(workspace: Workspace, name: str, made: AdapterVersion, replaces: int) -> tuple[AskedSet, Plan]:
    """Those the forerunner's gate asked; else the set held out beside the one it was trained on."""
    decided = workspace.gates.latest(name, replaces)
    before = workspace.evaluations.get(decided.evaluation_id) if decided is not None else None
    plan = before.plan if before is not None else Plan((), min_confidence=0.0)
    asked = AskedSet("questions", (), "retrieved")
    if before is not None:
        items = workspace.evaluations.items(before)["questions"]
        asked = AskedSet("questions", tuple(item for item, _ in items), items[0][1])
    elif made.lineage is not None and made.lineage.dataset is not None:
        asked = _held_out(workspace, made.lineage.dataset)
    settings = {"margin": MARGIN, "tolerance": TOLERANCE, **(plan.gate or {}), "promote": True}
    gate = {**settings, "adapter": name, "version": made.version, "active": workspace.adapters.get(name).active}
    ways = (Way("base", BASE), Way("candidate", f"{name}@{made.version}"))
    return asked, Plan(ways, plan.top_k, plan.collection, plan.filter, plan.min_confidence, plan.template, gate=gate)


def _held_out(workspace: Workspace, dataset: str) -> AskedSet:
    try:
        trained = workspace.datasets.get(dataset)
        held_out = workspace.datasets.get(held_out_name(trained.name or ""))
    except UnknownDataset:
        return AskedSet("questions", (), "given")
    examples = workspace.datasets.examples(held_out.id)
    items = [
        Item(example.question, tuple(Gold(answer) for answer in example.answers), example.passages[0].text)
        for example in examples
        if example.answers and example.passages
    ]
    return AskedSet("questions", tuple(items), "given")
