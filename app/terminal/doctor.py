"""`lorebase doctor`: what is wrong with this machine, the data or the service, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict

import typer
from pydantic import ValidationError
from rich.text import Text

from app.diagnosis import diagnose
from app.findings import Finding
from app.settings import Settings
from app.terminal.failures import Exit, settings_problem
from app.terminal.output import Output
from app.terminal.session import AsJson

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


def doctor(as_json: AsJson = False) -> None:
    """Say what is wrong with this machine, the data or the service, and how to mend it. Changes nothing.

    Exit code 1 when something is wrong; warnings are none.
    """
    output = Output(as_json=as_json)
    try:
        findings = diagnose(Settings())
    except ValidationError as error:
        findings = iter([Finding("settings", "wrong", settings_problem(error), "See `lorebase settings`.")])
    seen: list[Finding] = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            output.console.print(_line(finding), soft_wrap=True)
    wrong = sum(finding.state == "wrong" for finding in seen)
    warnings = sum(finding.state == "warning" for finding in seen)
    told = {"ok": not wrong, "wrong": wrong, "warnings": warnings, "checks": [asdict(finding) for finding in seen]}
    output.result(told, Text(f"\n{wrong} wrong, {warnings} warnings, {len(seen)} looked at", "bold"))
    if wrong:
        raise typer.Exit(Exit.FAILED)


def _line(finding: Finding) -> Text:
    mark, colour = _MARKS[finding.state]
    line = Text.assemble((mark, colour), f" {finding.name:<10} {finding.detail}")
    return line.append(f"\n  → {finding.mend}", colour) if finding.mend else line
