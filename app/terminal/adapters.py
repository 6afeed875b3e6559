"""`lorebase adapters`: versions of a tenant's adapters, which one answers, and files in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from app.evaluation_report import comparison_table
from app.evaluation_schemas import GateAdvice
from app.terminal.failures import CommandFailed, Unusable
from app.terminal.jobs import followed
from app.terminal.output import size, table
from app.terminal.session import Session, on_service

group = typer.Typer(no_args_is_help=True, add_completion=False, help="A tenant's adapters and their versions.")
Name = Annotated[str, typer.Argument(help="The adapter's name.")]
Version = Annotated[int, typer.Argument(min=1, help="Its version.")]


@group.command("list")
@on_service()
def list_adapters(session: Session) -> None:
    """All adapters; a star marks the tenant's default."""
    found = session.client.adapters()
    rows = []
    for each in found.adapters:
        active = next((v for v in each.versions if v.version == each.active), None)
        rows.append((
            f"{'*' if each.default else ' '} {each.name}", each.active or "none", len(each.versions),
            active.kind if active else "", active.state if active else "", size(sum(v.bytes for v in each.versions)),
        ))  # fmt: skip
    columns = ("name", "active", "versions", "kind", "state", "size")
    session.output.result(found, table(columns, rows, "There are no adapters; questions are answered by the base."))


@group.command()
@on_service()
def show(session: Session, name: Name) -> None:
    """One adapter: its versions, what they were made of, and what has happened."""
    found = session.client.adapter(name)
    rows = [
        (
            f"{'*' if v.version == found.active else ' '} {v.version}", v.kind, v.rank, v.state, size(v.bytes),
            v.lineage.method if v.lineage else "uploaded", v.lineage.dataset if v.lineage else "",
            "" if v.gate is None else "passed" if v.gate.passed else "failed", v.sha256[:12],
        )
        for v in found.versions
    ]  # fmt: skip
    columns = ("version", "kind", "rank", "state", "size", "made by", "from", "gate", "sha256")
    events = [(f"{e.at:%Y-%m-%d %H:%M}", e.event, e.version, e.reason) for e in found.history]
    history = table(("at", "what", "version", "why"), events, "")
    held = [_held_back(name, v.version, v.gate.advice) for v in found.versions if v.gate and v.gate.advice]
    session.output.result(found, table(columns, rows, "It has no versions."), Text(), *held, history)


@group.command()
@on_service(creates=True)
def upload(
    session: Session,
    name: Name,
    source: Annotated[Path, typer.Argument(help="A folder with peft's two files, or a zip archive of them.")],
    promote: Annotated[bool, typer.Option("--promote", help="Let it answer at once.")] = False,
) -> None:
    """Register a new version. It answers once promoted."""
    made = session.client.upload_adapter(name, source)
    if promote:
        session.client.promote(made.name, made.version)
    state = "active" if promote else f"registered; lorebase adapters promote {name} {made.version} lets it answer"
    session.output.result(made, f"{made.name}@{made.version} is {state}.")


@group.command("import")
@on_service(creates=True)
def import_archive(
    session: Session, name: Name, archive: Annotated[Path, typer.Argument(help="A zip that `adapters export` wrote.")]
) -> None:
    """Register a version from an archive that was exported elsewhere."""
    if archive.suffix != ".zip":
        raise Unusable(f"{archive}: an archive ends in .zip; `lorebase adapters upload` takes a folder.")
    made = session.client.upload_adapter(name, archive)
    session.output.result(made, f"{made.name}@{made.version} is registered.")


@group.command()
@on_service()
def export(
    session: Session,
    name: Name,
    version: Version,
    target: Annotated[
        Path | None, typer.Option("--output", help="The file to write; NAME-VERSION.zip by default.")
    ] = None,
) -> None:
    """Write a version to a zip archive in peft's format."""
    written = write_new(target or Path(f"{name}-{version}.zip"), session.client.export_version(name, version))
    told = {"name": name, "version": version, "file": str(written), "bytes": written.stat().st_size}
    session.output.result(told, f"{name}@{version} is in {written} ({size(written.stat().st_size)}).")


@group.command()
@on_service()
def promote(session: Session, name: Name, version: Version) -> None:
    """Let a version answer, from the next question on."""
    active = session.client.promote(name, version)
    session.output.result(active, f"{active.name}@{active.version} answers.")


@group.command()
@on_service()
def gate(
    session: Session,
    name: Name,
    version: Version,
    questions: Annotated[Path, typer.Option(help="Questions with answers: SQuAD's format, or a list, as JSON.")],
    promote: Annotated[bool, typer.Option(help="Promote it when it passes.")] = True,
) -> None:
    """Promote a version if it is better on these questions than what answers now, and forgets nothing; else exit 1."""
    begun = session.client.gate(name, version, {**_questions(questions), "name": questions.name, "promote": promote})
    followed(session, session.client.job(begun.job_id))
    found = session.client.evaluation(begun.evaluation_id)
    verdict = found.gate
    if verdict is None:
        raise CommandFailed("The gate ended without a verdict.", "no_verdict")
    fate = "passed and answers" if verdict.promoted else "passed"
    said = [f"{name}@{version} {fate}."] if verdict.passed else []
    if verdict.advice is not None:
        said = ["", f"What to do: {verdict.advice.text}", f"Then: {_next(verdict.advice, name, version, questions)}"]
    session.output.result(found, comparison_table(found), *verdict.reasons, *said)
    if not verdict.passed:
        raise CommandFailed(f"{name}@{version} is held back; {_despite(verdict.advice, name, version)}.", "held_back")


def _held_back(name: str, version: int, advice: GateAdvice) -> Text:
    return Text(f"{name}@{version} is held back. {advice.text} Then: {_next(advice, name, version, None)}\n")


def _next(advice: GateAdvice, name: str, version: int, questions: Path | None) -> str:
    """The command to go on with."""
    if advice.next.endswith("/train"):
        less = " --strength 0.4" if advice.because == "forgets" else ""
        return f"lorebase train job {name} --file EXAMPLES.jsonl{less}"
    return f"lorebase adapters gate {name} {version} --questions {questions or 'FILE.json'}"


def _despite(advice: GateAdvice | None, name: str, version: int) -> str:
    if advice is not None and advice.promote_anyway is None:
        return "this tenant's policy lets only versions answer that have passed"
    return f"`lorebase adapters promote {name} {version}` lets it answer all the same"


def _questions(path: Path) -> dict[str, Any]:
    """A file's question set, as the gate takes it. Raises Unusable, OSError."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unusable(f"{path}: not valid JSON: {error}") from error
    if isinstance(given, dict) and "data" in given:
        return {"data": given["data"]}
    return {"questions": given.get("questions") if isinstance(given, dict) else given}


@group.command()
@on_service()
def rollback(session: Session, name: Name) -> None:
    """Let the version answer that did before."""
    active = session.client.rollback(name)
    session.output.result(active, f"{active.name}@{active.version} answers again.")


@group.command()
@on_service()
def canary(
    session: Session,
    name: Name,
    version: Version,
    percent: Annotated[float, typer.Option(min=0, max=100, help="Share of the requests; 0 ends the trial.")],
    shadow: Annotated[bool, typer.Option("--shadow", help="It answers too, and nobody sees it.")] = False,
) -> None:
    """Try a version on a share of the requests beside the active one."""
    found = session.client.canary(name, version, percent, mode="shadow" if shadow else "canary")
    trial = found.trial
    state = f"{trial.percent:g} % of {name} go to version {trial.version}" if trial else f"no trial of {name} runs"
    session.output.result(found, f"{state[0].upper()}{state[1:]}.")


@group.command()
@on_service()
def default(session: Session, name: Annotated[str, typer.Argument(help="An adapter's name, or `base`.")]) -> None:
    """Choose the adapter of questions that name none."""
    chosen = session.client.set_default_adapter(name)
    session.output.result(chosen, f"Questions that name no adapter go to {chosen.name}.")


@group.command()
@on_service()
def delete(
    session: Session,
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="Only this version, which must not be active.")] = None,
) -> None:
    """Delete an adapter with all its versions, or one version."""
    if version is None:
        session.client.delete_adapter(name)
    else:
        session.client.delete_version(name, version)
    what = name if version is None else f"{name}@{version}"
    session.output.result({"deleted": what}, f"{what} is deleted.")


def write_new(target: Path, pieces: Iterator[bytes]) -> Path:
    """Write a file that is not there yet; it appears under its name when it is whole. Raises Unusable, OSError."""
    if target.exists():
        raise Unusable(f"{target} is there already; name a new file.")
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target
