"""Every command: found in the table, loaded only when called, with `--json`, exit codes and one line for an error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli import command_names, load
from app.local_server import LocalServer
from app.training_schemas import TrainRequest
from tests.app.terminal.console import Ran, environment, lorebase

EXAMPLES = Path(__file__).parents[3] / "examples"


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands below a command, or itself."""
    if hasattr(command, "commands"):
        for sub, each in command.commands.items():
            yield from leaves(f"{name} {sub}", each)
    else:
        yield name, command


def every_command() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in command_names():
        loaded = load(name)
        if not isinstance(loaded, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(name)(loaded)
            loaded = single
        found |= leaves(name, typer.main.get_command(loaded))
    return found


def test_every_command_says_what_it_does_and_can_print_json() -> None:
    found = every_command()
    assert len(found) > 40
    assert {
        name for name, command in found.items() if "--json" not in [o for p in command.params for o in p.opts]
    } == set()
    assert all(command.help for command in found.values())


def test_a_training_takes_in_the_terminal_what_it_takes_over_http() -> None:
    found = every_command()
    over_http = {*TrainRequest.model_fields} - {"dataset"}
    assert over_http <= {param.name for param in found["train job"].params}
    assert over_http - {"top_k"} <= {param.name for param in found["train adapter"].params}


def test_the_list_of_commands_loads_none_of_them() -> None:
    script = "import sys; from app.cli import cli; cli(['--help'], standalone_mode=False); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.rstrip().rpartition("\n")
    assert all(name in shown for name in command_names())
    loaded = set(modules.split())
    assert loaded.isdisjoint({"pydantic", "httpx", "numpy", "fastapi", "app.settings", "app.client"})


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        variables = environment(
            _LOREBASE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
        )
        script = [sys.executable, "-m", "app.cli"]
        program = "import sys; sys.argv = ['lorebase']; from app.cli import main; main()"
        return subprocess.run(
            [script[0], "-c", program], env=variables, capture_output=True, text=True, check=False
        ).stdout.split()  # fmt: skip

    assert completed("lorebase ada") == ["adapters"]
    assert "--compare" in completed("lorebase ask --com")


@pytest.fixture(scope="module")
def run(server: LocalServer) -> Any:
    """Runs commands with the key of a tenant of their own, which has the examples' documents."""
    admin = {"LOREBASE_URL": server.url, "LOREBASE_KEY": server.admin_key}
    made = lorebase("tenants", "create", "terminal tests", "--json", **admin).json
    key = {"LOREBASE_URL": server.url, "LOREBASE_KEY": made["api_key"]}

    def run(*arguments: str, **more: Any) -> Ran:
        return lorebase(*arguments, **{**key, **more})

    assert run("ingest", str(EXAMPLES / "documents"), "--metadata", '{"kind": "example"}').code == 0
    yield run
    assert lorebase("tenants", "delete", "terminal tests", **admin).code == 2  # there is nobody to confirm it
    assert lorebase("tenants", "delete", "terminal tests", "--yes", **admin).code == 0


@pytest.mark.e2e
def test_a_question_is_answered_with_its_sentence_and_place(run: Any) -> None:
    shown = run("ask", "How many days of annual leave do employees have?", "--filter", '{"kind": "example"}')
    assert shown.code == 0
    assert shown.out.startswith("28\n[1] Full-time employees have 28 days of paid annual leave")
    assert "page 2 · 3. Leave > 3.1 Annual leave" in shown.out
    assert "\x1b" not in shown.out  # no colour through a pipe
    told = run("ask", "Who invented the telephone?", "--json").json
    assert (told["abstained"], told["answer"]) == (True, "")


@pytest.mark.e2e
def test_how_documents_fared_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("The kiosk at Varn opens at seven.")
    known = str(EXAMPLES / "documents" / "annual-report.md")
    assert run("ingest", str(tmp_path), known).out.splitlines()[-1] == "2 documents: 1 ready, 1 there already"
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    some = run("ingest", str(tmp_path), known)
    assert (some.code, "failed\n" in some.out) == (1, False)
    assert some.error == "error: 3 documents: 2 there already, 1 failed\n"


@pytest.mark.e2e
def test_what_was_changed_is_listed_and_verified(run: Any) -> None:
    listed = run("audit", "list", "--json").json
    assert "POST /ingest" in {each["action"] for each in listed["entries"]}
    verified = run("audit", "verify", "--json").json
    assert verified["valid"] is True
    assert verified["entries"] >= listed["total"]


@pytest.mark.e2e
def test_a_service_that_cannot_begin_says_so_in_json(server: LocalServer) -> None:
    refused = lorebase("serve", "--json", LOREBASE_DATA=str(server.data))
    assert (refused.code, refused.out) == (1, "")
    assert json.loads(refused.error)["error"]["code"] == "cannot_serve"


@pytest.mark.e2e
def test_an_adapter_goes_in_answers_beside_the_base_and_comes_out_whole(run: Any, tmp_path: Path) -> None:
    folder = str(EXAMPLES / "adapters" / "finance")
    assert run("adapters", "upload", "finance", folder, "--promote", "--json").json["version"] == 1
    compared = run("ask", "Why did revenue increase in 2025?", "--compare", "finance", "--json").json
    assert [answer["adapter"] and answer["adapter"]["name"] for answer in compared["answers"]] == [None, "finance"]
    archive = tmp_path / "f.zip"
    assert run("adapters", "export", "finance", "1", "--output", str(archive)).code == 0
    assert run("adapters", "export", "finance", "1", "--output", str(archive)).code == 2  # it is there already
    again = run("adapters", "import", "copy", str(archive), "--json").json
    [shown] = run("adapters", "show", "finance", "--json").json["versions"]
    assert (again["version"], again["sha256"]) == (1, shown["sha256"])
    listed = run("adapters", "list")
    assert "finance" in listed.out
    assert "copy" in listed.out
    assert run("adapters", "rollback", "finance").code == 1  # there is nothing before it


@pytest.mark.e2e
def test_a_key_is_made_for_what_it_is_for_and_revoked(run: Any, server: LocalServer) -> None:
    admin = {"LOREBASE_KEY": server.admin_key}
    made = run("tenants", "keys", "add", "terminal tests", "--scope", "ask", "--days", "1", "--json", **admin).json
    asking = {"LOREBASE_KEY": made["api_key"]}
    assert run("search", "leave", "--json", **asking).code == 0
    refused = run("ingest", str(EXAMPLES / "documents" / "annual-report.md"), **asking)
    assert (refused.code, "missing_scope" in refused.error) == (4, True)
    assert run("tenants", "keys", "revoke", "terminal tests", made["id"], **admin).code == 0
    assert run("search", "leave", **asking).code == 4
    assert run("usage", "--json").json["holds"]["documents"] >= 4


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["ask", "x", "--adapter", "nobody"], 5, "unknown_adapter"),
        (["ask", "x", "--filter", "{"], 2, "not valid JSON"),
        (["ask", "x", "--key", "not-a-key-of-anybody"], 4, "unauthorized"),
        (["ask", "x", "--url", "http://127.0.0.1:9"], 3, "No answer"),
        (["ask", "x", "--data", "d", "--url", "http://127.0.0.1:9"], 2, "either --data"),
        (["ingest", "no-such-file"], 2, "no such file"),
        (["documents", "show", "no-such-id"], 5, "not_found"),
        (["train", "job", "x"], 2, "--dataset"),
        (["train", "job", "x", "--dataset", "pairs", "--feedback"], 2, "one of"),
        (["train", "job", "x", "--feedback"], 1, "feedback"),
        (
            ["train", "job", "x", "--file", str(EXAMPLES / "tutorial" / "corrections.jsonl"), "--width", "64"],
            1,
            "width",
        ),
    ],
)
def test_an_error_is_one_line_with_an_exit_code_of_its_kind(
    run: Any, arguments: list[str], code: int, word: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.error.startswith("error: ")
    assert done.error.count("\n") == 1
    assert word in done.error


@pytest.mark.e2e
def test_with_json_an_error_is_json_too(run: Any) -> None:
    done = run("documents", "show", "no-such-id", "--json")
    assert (done.code, done.out) == (5, "")
    error = json.loads(done.error)["error"]
    assert (error["status"], error["code"]) == (404, "not_found")


def test_settings_that_cannot_be_used_are_named() -> None:
    done = lorebase("ask", "x", LOREBASE_PORT="many")
    assert done.code == 2
    assert "LOREBASE_PORT" in done.error
    assert done.error.count("\n") == 1


def test_a_setting_that_must_have_a_form_is_told_what_it_must_look_like() -> None:
    done = lorebase("serve", LOREBASE_ADAPTER_STORE="ftp://files")
    assert done.code == 2
    assert "LOREBASE_ADAPTER_STORE" in done.error
    assert "s3://bucket/prefix" in done.error
    assert "pattern" not in done.error


@pytest.mark.e2e
def test_a_version_that_the_gate_holds_back_ends_with_the_reasons_and_exit_code_1(run: Any, tmp_path: Path) -> None:
    folder = str(EXAMPLES / "adapters" / "finance")
    version = run("adapters", "upload", "gated", folder, "--json").json["version"]
    few = tmp_path / "few.json"
    few.write_text(json.dumps([{"question": "How many days of annual leave do employees have?", "answers": ["28"]}]))
    held = run("adapters", "gate", "gated", str(version), "--questions", str(few))
    assert (held.code, f"gated@{version} is held back" in held.error) == (1, True)
    assert "What to do: Too few questions to decide by (1): add 19 or more" in held.out
    assert f"Then: lorebase adapters gate gated {version} --questions {few}" in held.out
    assert f"`lorebase adapters promote gated {version}` lets it answer all the same" in held.error
    assert f"gated@{version} is held back. Too few questions to decide by (1)" in run("adapters", "show", "gated").out
    few.write_text("{")
    assert run("adapters", "gate", "gated", str(version), "--questions", str(few)).code == 2
