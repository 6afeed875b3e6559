"""The page's files: complete, in two languages, as released by those they come from, and the only ones given freely."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from adapters import EventKind
from adapters.training import OBJECTIVES, Targets
from app.adapter_schemas import AdapterVersionResponse, LineageResponse
from app.evaluation_schemas import EvaluationWay
from app.job_activity import Activity
from app.jobs import JobKind
from app.life.advice import Because
from app.life.policy import OnErasure, Policy
from app.page_files import FILES, FOLDER, headers_of
from app.problems import CODES
from app.schemas import JobSummary
from app.scopes import OPERATOR, TENANT_SCOPES
from app.training_schemas import DatasetResponse
from app.usage_schemas import LimitsRequest

SOURCES = [path for path in sorted(FOLDER.rglob("*.js")) if "vendor" not in path.parts]
RELEASED = {
    "preact-htm.js": "569f95540d3dda7c0fd08bf76ec2c6bab886e1369882e50e92621774d01e3491",
    "swagger-ui/swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui/swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "source-serif/source-serif-4-latin.woff2": "382475f38242c52d42a3e5ff8dc69b5d73f10d0d21e4550b5fe232984688779a",
}


def words(language: str) -> dict[str, str]:
    found = json.loads((FOLDER / "i18n" / f"{language}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_both_languages_say_the_same_things_with_the_same_values() -> None:
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert text.strip()
        assert chinese[key].strip()
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_the_page_says_only_what_the_dictionaries_hold_and_they_hold_nothing_else() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    literal = set(re.findall(r'"([a-z][a-z_.-]+)"', source))
    begun = set(re.findall(r"t\(`([a-z_.]+)\$\{", source))
    said = set(re.findall(r'\bt\("([^"]+)"', source))
    known = set(words("en"))
    assert said <= known, said - known
    unused = {key for key in known if key not in literal and not any(key.startswith(begin) for begin in begun)}
    assert not unused


def test_every_name_that_the_service_gives_and_the_page_shows_has_its_words() -> None:
    given = {
        "job": get_args(JobKind),
        "job.state": get_args(JobSummary.model_fields["state"].annotation),
        "history": get_args(EventKind),
        "way": get_args(EvaluationWay.model_fields["way"].annotation),
        "datasets": get_args(DatasetResponse.model_fields["source"].annotation),
        "scope": [*TENANT_SCOPES, OPERATOR],
        "policy": [field.name for field in fields(Policy)],
        "policy.on_erasure": get_args(OnErasure),
        "usage": LimitsRequest.model_fields,
        "training.objective": OBJECTIVES,
        "training.targets": get_args(Targets),
        "lineage.origin": get_args(LineageResponse.model_fields["origin"].annotation),
        "adapters": get_args(AdapterVersionResponse.model_fields["state"].annotation),
        "advice": get_args(Because),
        "stage": get_args(get_type_hints(Activity)["stage"]),
        "timing": ["retrieve", "queue", "first_token", "generate", "total"],
    }
    missing = {f"{group}.{name}" for group, names in given.items() for name in names} - set(words("en"))
    assert not missing


def raised_codes() -> Iterator[str]:
    """The codes that the service's code gives its problems by name, there or in a variable `code`."""
    for path in FOLDER.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="Problem"), args=[_, ast.Constant(value=str(code)), *_]):
                    yield code
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    yield code


def test_every_problem_that_the_service_can_answer_has_chinese_words() -> None:
    known = json.loads((FOLDER / "i18n" / "problems.zh.json").read_text(encoding="utf-8"))
    given = {*CODES, *raised_codes()}
    assert {"rate_limited", "missing_scope", "too_large"} <= given
    assert set(known) == given
    assert list(known) == sorted(known)


def test_every_module_of_the_page_finds_what_it_imports() -> None:
    for path in SOURCES:
        for wanted in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8")):
            assert (path.parent / wanted).is_file(), f"{path.name}: {wanted}"
        for name, wanted in re.findall(r'import \{([^}]+)\} from "(\.[^"]+)"', path.read_text(encoding="utf-8")):
            exported = (path.parent / wanted).read_text(encoding="utf-8")
            for one in re.split(r"[,\s]+", name.strip()):
                assert re.search(rf"\b{re.escape(one)}\b", exported), f"{path.name}: {one} of {wanted}"


@pytest.mark.parametrize("name", RELEASED)
def test_files_of_others_are_as_they_were_released(name: str) -> None:
    assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == RELEASED[name]


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_but_its_files() -> None:
    for address in ("/", "/docs"):
        policy = headers_of(address)["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "script" not in policy.replace("require-trusted-types-for 'script'", "")
        assert "<script>" not in FILES[address].read_text(encoding="utf-8")
        assert not re.search(r"(src|href)=\"(https?:)?//", FILES[address].read_text(encoding="utf-8"))
    assert "trusted-types 'none'" in headers_of("/")["Content-Security-Policy"]


def test_no_text_is_made_into_markup() -> None:
    for path in SOURCES:
        assert not re.search(r"innerHTML|dangerouslySetInnerHTML|outerHTML|document\.write|eval\(|new Function",
                             path.read_text(encoding="utf-8")), path.name  # fmt: skip


def test_a_wheel_carries_every_file_of_the_page() -> None:
    configured = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = configured["tool"]["setuptools"]["package-data"]["app"]
    packed = {path for pattern in patterns for path in FOLDER.parent.glob(pattern) if path.is_file()}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= packed


def test_modules_stay_small() -> None:
    for path in [*SOURCES, *FOLDER.glob("css/*.css")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path.name
