"""Lines of a training file in OpenAI's formats, in the fields of this project's own: a chat is a question and its
answer, a preference an answer and a rejected one.

Knows the shapes only; whether the fields hold what they should is checked where every line is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.errors import InvalidTrainingData


def plain_fields(fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The fields ``question``, ``answer`` and ``rejected`` of a line in OpenAI's chat format (``messages``) or
    preference format (``input``, ``preferred_output``, ``non_preferred_output``); other lines as they are.

    A system message is left out: prompts come from the templates.

    Raises:
        InvalidTrainingData: the chat is not one question and one answer in text.
    """
    if "messages" in fields:
        question, answer = _said(fields["messages"], f"{where}, field 'messages'")
        return {"question": question, "answer": answer}
    if "preferred_output" in fields:
        asked = fields.get("input")
        question, _ = _said(asked.get("messages") if isinstance(asked, dict) else None, f"{where}, field 'input'")
        answers = [_said(fields.get(of), f"{where}, field {of!r}")[1] for of in ("preferred_output", _WORSE)]
        return {"question": question, "answer": answers[0], "rejected": answers[1]}
    return fields


_WORSE = "non_preferred_output"


def _said(messages: Any, where: str) -> tuple[Any, Any]:
    """What the user and the assistant say; None for one who says nothing."""
    said: dict[str, Any] = {}
    if not isinstance(messages, list) or not messages:
        raise InvalidTrainingData(f"{where}: must be a list of messages.")
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "developer", "user", "assistant"):
            raise InvalidTrainingData(f"{where}: each message needs the role system, user or assistant.")
        if role in said and role in ("user", "assistant"):
            raise InvalidTrainingData(f"{where}: one question and one answer to a line; this is a longer conversation.")
        said[role] = message.get("content")
    return said.get("user"), said.get("assistant")
