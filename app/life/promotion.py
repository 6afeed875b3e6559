"""Making a version the active one, within what the tenant's policy allows. Every way to promote leads through here."""

from __future__ import annotations

from typing import Any

from adapters import AdapterVersion, refuse_damaged
from app.life.advice import with_routes
from app.life.errors import GateRequired
from app.workspace import Workspace


def promote(workspace: Workspace, name: str, number: int) -> AdapterVersion:
    """Make a version the active one.

    Raises:
        UnknownAdapter: no such adapter or version.
        AdapterFilesDamaged: its files are not what was registered.
        VersionTainted: it may not serve: a document it was trained on was erased.
        GateRequired: the tenant's policy asks for a gate that this version has not passed.
    """
    workspace.erasures.refuse_blocked(name, number)
    if workspace.policy.current.require_gate:
        workspace.adapters.select(f"{name}@{number}")  # an unknown version is told as such
        decided = workspace.gates.latest(name, number)
        if decided is None or not decided.passed:
            raise _not_passed(name, number, None if decided is None else decided.advice)
    selection = workspace.adapters.select(f"{name}@{number}")
    assert selection is not None  # noqa: S101 - a version is no base
    refuse_damaged(selection.ref)
    return workspace.adapters.promote(name, number)


def _not_passed(name: str, number: int, kept: dict[str, Any] | None) -> GateRequired:
    told = f"This tenant promotes only what has passed the gate, and {name}@{number} has not"
    advice = with_routes(kept, name, number, may_promote=False)
    if advice is None:
        ask = f"POST /adapters/{name}/versions/{number}/gate with a question set"
        return GateRequired(f"{told}: {ask}, or change PUT /policy.")
    return GateRequired(f"{told}. {advice['text']} Next: {advice['next']}, or change PUT /policy.", advice)
