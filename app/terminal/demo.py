"""The demonstration `lorebase demo`: two tenants, three documents, two adapters, one service.

Knows the examples and the client; everything it shows went through a real server process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from app.client import ADAPTER_FILES, LorebaseClient, ServiceError
from app.local_server import LocalServer, ServerFailed, local_server
from app.schemas import AskResponse
from app.terminal.answers import answers_table
from app.terminal.failures import CommandFailed
from app.terminal.output import Output

EXAMPLES = Path(__file__).parents[2] / "examples"
_HANDBOOK = "staff-handbook.pdf"
_BASE = "base"


class DemoFailed(Exception):
    """The demonstration did not show what it should; the message says what."""


@dataclass(frozen=True, slots=True)
class Part:
    """One tenant of the demonstration.

    Attributes:
        files: of ``examples/documents``.
        adapter: a folder of ``examples/adapters``, and the adapter's name.
        questions: asked with base and with the adapter.
    """

    tenant: str
    files: tuple[str, ...]
    adapter: str
    questions: tuple[str, ...]
    unanswerable: str


PARTS = (
    Part(
        tenant="Brackwater finance team",
        files=("annual-report.md", _HANDBOOK),
        adapter="finance",
        questions=(
            "Why did revenue increase in 2025?",
            "What do research and development expenses consist of?",
            "How many days of paid annual leave do full-time employees have?",
        ),
        unanswerable="What is the half-life of cendropine?",
    ),
    Part(
        tenant="Veltorane patient line",
        files=("medicine-leaflet.html", _HANDBOOK),
        adapter="biomed",
        questions=(
            "How does cendropine prevent the release of histamine?",
            "What does the treatment of an overdose consist of?",
            "How is overtime compensated?",
        ),
        unanswerable="When does the bank loan mature?",
    ),
)


def run_demo(output: Output) -> None:
    """Show the service on the examples.

    Raises:
        CommandFailed: it did not show what it should.
        ServiceError: the service refused something.
    """
    console = Console(quiet=output.as_json)
    try:
        check_examples(EXAMPLES)
        console.print("Starting the service on a free port, with an empty data folder …")
        with local_server() as server:
            console.print(f"It is ready at {server.url}.")
            shown = _show(server, console)
    except (DemoFailed, ServerFailed) as error:
        raise CommandFailed(f"The demonstration failed: {error}", "demo_failed") from error
    output.result({"tenants": shown}, "The service is stopped and its data folder removed.")


def check_examples(examples: Path) -> None:
    """Raise DemoFailed if a document or an adapter is not there."""
    needed = [examples / "documents" / file for part in PARTS for file in part.files]
    needed += [examples / "adapters" / part.adapter / file for part in PARTS for file in ADAPTER_FILES]
    missing = [str(path) for path in dict.fromkeys(needed) if not path.is_file()]
    if missing:
        raise DemoFailed(f"these example files are missing: {', '.join(missing)}. Run it from a checkout of the code.")


def _show(server: LocalServer, console: Console) -> list[dict[str, Any]]:
    """What each tenant was answered, by each way it was asked."""
    with server.admin() as admin:
        clients = [LorebaseClient(server.url, admin.create_tenant(part.tenant).api_key) for part in PARTS]
    try:
        kept = [_set_up(client, part, console) for client, part in zip(clients, PARTS, strict=True)]
        shown = []
        for client, part in zip(clients, PARTS, strict=True):
            console.rule(part.tenant)
            asked = []
            for question, answers in _ask_all(client, part):
                console.print(answers_table(question, answers))
                asked.append({"question": question, "answers": [each.model_dump(mode="json") for each in answers]})
            shown.append({"name": part.tenant, "files": part.files, "adapter": part.adapter, "asked": asked})
        console.rule()
        _show_walls(clients[1], kept[0], console)
        return shown
    finally:
        for client in clients:
            client.close()


def _set_up(client: LorebaseClient, part: Part, console: Console) -> str:
    """Give a tenant its documents and its adapter; the id of its first document."""
    began = time.perf_counter()
    stored = client.ingest_files([EXAMPLES / "documents" / file for file in part.files]).documents
    for document in stored:
        if document.status != "ready":
            raise DemoFailed(f"{document.title} was not ingested: {document.error or document.status}")
    seconds = time.perf_counter() - began
    version = client.upload_adapter(part.adapter, EXAMPLES / "adapters" / part.adapter).version
    client.promote(part.adapter, version)
    titles = " and ".join(f"“{document.title}”" for document in stored)
    console.print(f"{part.tenant}: ingested {titles} in {seconds:.1f} s; adapter {part.adapter}@{version} is active.")
    return stored[0].id


def _ask_all(client: LorebaseClient, part: Part) -> Iterator[tuple[str, list[AskResponse]]]:
    for question in part.questions:
        yield question, [_ask(client, question, adapter) for adapter in (_BASE, part.adapter)]
    yield part.unanswerable, [_ask(client, part.unanswerable, part.adapter)]


def _ask(client: LorebaseClient, question: str, adapter: str) -> AskResponse:
    response = client.ask(question, adapter=adapter)
    used = response.adapter.name if response.adapter else _BASE
    if used != adapter:
        raise DemoFailed(f"asked with adapter {adapter}, answered with {used}.")
    return response


def _show_walls(other: LorebaseClient, document_id: str, console: Console) -> None:
    """Show that a tenant cannot see another's document, by its id or in its own list."""
    listed = any(document.id == document_id for document in other.documents().documents)
    try:
        other.document(document_id)
    except ServiceError as error:
        if error.status == 404 and not listed:
            console.print(
                f"{PARTS[1].tenant} asks for the first document of {PARTS[0].tenant} by its id: "
                f"{error.status} {error.code}, “{error.detail}”"
            )
            return
        raise
    raise DemoFailed("a tenant can read another tenant's document.")
