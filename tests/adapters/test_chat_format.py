"""Training files in OpenAI's formats are read as the project's own; what is no question and answer is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.errors import InvalidTrainingData
from adapters.training import parse_examples


def say(**said: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in said.items()]


def test_a_chat_is_a_question_with_its_answer() -> None:
    line = {"messages": say(system="Be brief.", user="Why?", assistant="So.")}
    (example,) = parse_examples("set", json.dumps(line).encode())
    assert (example.question, example.answers, example.rejected) == ("Why?", ("So.",), None)


def test_a_preference_is_an_answer_and_a_rejected_one() -> None:
    line = {
        "input": {"messages": say(user="Why?")},
        "preferred_output": say(assistant="So."),
        "non_preferred_output": say(assistant="No."),
    }
    (example,) = parse_examples("set", json.dumps(line).encode())
    assert (example.question, example.answers, example.rejected) == ("Why?", ("So.",), "No.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"messages": "Why?"}, "field 'messages': must be a list"),
        ({"messages": []}, "field 'messages': must be a list"),
        ({"messages": ["Why?"]}, "needs the role"),
        ({"messages": say(tool="x")}, "needs the role"),
        ({"messages": [*say(user="Why?", assistant="So."), *say(user="And?")]}, "a longer conversation"),
        ({"messages": say(assistant="So.")}, "field 'question'"),
        ({"messages": say(user="Why?", assistant=["So."])}, "field 'answer'"),
        ({"input": "Why?", "preferred_output": [], "non_preferred_output": []}, "field 'input': must be a list"),
    ],
)
def test_what_is_no_question_and_answer_is_refused_with_line_and_field(line: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTrainingData, match=f"set, line 1.*{said}"):
        parse_examples("set", json.dumps(line).encode())
