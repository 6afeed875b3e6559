"""The prompt a language model reads: a question over numbered passages, the same text in training and in serving.

Knows numbering, fences, turns and token budgets; everything here is a function of its arguments. Wording is the
template's. Knows no model, no requests, no adapters. Passages are other people's text: they stand inside a fence that
they cannot close, and control tokens in them are broken up, so that a document cannot speak in the system's voice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2.exceptions import TemplateError

from adapters.citation_marks import without_marks
from adapters.engine import Row
from adapters.errors import RequestTooLong
from adapters.template import ABSTENTION, Passage, fill

COMMON_CONTROL_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<start_of_turn>",
    "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<bos>", "<eos>",
)  # fmt: skip
"""What widespread models read as control tokens, for a model whose tokenizer is not at hand."""
_FENCE = re.compile(r"<(?=\s*/?\s*sources\b)", re.IGNORECASE)
_BRACKETED = re.compile(r"[<\[].+[>\]]")
_TURN_MARKUP = 16  # tokens that a chat template may put around one turn, generously

Message = dict[str, str]


class PromptTokenizer(Protocol):
    """What of a Hugging Face tokenizer a prompt needs."""

    chat_template: Any
    added_tokens_decoder: dict[int, Any]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def apply_chat_template(
        self, conversation: list[Message], *, tokenize: bool, add_generation_prompt: bool, enable_thinking: bool
    ) -> Any:
        """A conversation as one text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that fits its budget.

    Attributes:
        token_ids: what the model reads.
        shown: indices of the passages that stand in it, in order; passage i is numbered i + 1.
        dropped: indices of the passages that did not fit.
        dropped_turns: how many of the oldest turns of the history did not fit.
        grounded: whether the answer must rest on the passages.
        verbatim: whether the model's words are the answer just as they come.
    """

    text: str
    token_ids: tuple[int, ...]
    shown: tuple[int, ...]
    dropped: tuple[int, ...]
    dropped_turns: int = 0
    grounded: bool = True
    verbatim: bool = False

    @property
    def unanswerable(self) -> bool:
        """Whether the answer would have to rest on passages, but there is none."""
        return self.grounded and not self.shown


def pack(row: Row, tokenizer: PromptTokenizer, *, context: int) -> Prompt:
    """Build the prompt from as much as fits: the question and its template whole, then the latest turns of the
    history, then passages, best first; a passage is shown whole or dropped.

    The history takes at most half of what the question leaves when there are passages too. A passage that does not
    fit is passed over; a later, shorter one may still fit.

    Args:
        context: tokens the model can hold, prompt and answer together; ``row.max_tokens`` are kept free.

    Raises:
        RequestTooLong: the question alone does not fit.
    """
    control = control_tokens(tokenizer)
    max_tokens = max(1, row.max_tokens)
    budget = context - max_tokens
    used = len(_encode(render(row, (), tokenizer, turns=0), tokenizer))
    if used > budget:
        if row.chat:
            raise RequestTooLong(
                f"The messages have {used} tokens and the answer may take {max_tokens}, but the model holds {context} "
                "together. Send fewer or shorter messages, or lower max_tokens."
            )
        raise RequestTooLong(
            f"The question with its template needs {used} tokens and the answer may take {max_tokens}, "
            f"but the model holds {context} together. Shorten the question or lower max_tokens."
        )

    if row.chat:
        text = render(row, (), tokenizer)
        return Prompt(text, tuple(_encode(text, tokenizer)), (), (), grounded=False, verbatim=True)

    def cost(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    passages = row.passages if row.grounded else ()
    turns, room = 0, (budget - used) // 2 if passages else budget - used
    for turn in reversed(row.history):
        room -= cost(turn.question) + cost(turn.answer) + _TURN_MARKUP
        if room < 0:
            break
        turns += 1
    if turns:
        used = len(_encode(render(row, (), tokenizer, turns=turns), tokenizer))
    shown: list[int] = []
    for i, passage in enumerate(passages):
        needed = cost("\n" + _numbered(i, passage, control))
        if used + needed <= budget:
            shown.append(i)
            used += needed
    while True:  # tokens merge across the seams, so the sums above can be off by a few
        text = render(row, shown, tokenizer, turns=turns)
        token_ids = _encode(text, tokenizer)
        if len(token_ids) <= budget or not (shown or turns):
            dropped = tuple(i for i in range(len(passages)) if i not in shown)
            lost = len(row.history) - turns
            return Prompt(text, tuple(token_ids), tuple(shown), dropped, lost, row.grounded)
        if shown:
            shown.pop()
        else:
            turns -= 1


def render(row: Row, shown: Iterable[int], tokenizer: PromptTokenizer, *, turns: int | None = None) -> str:
    """The prompt's text, up to where the answer begins.

    Args:
        shown: indices of the row's passages that stand in it; passage i is numbered i + 1.
        turns: the latest turns of the history that stand in it; None: all.

    Returns:
        The tokenizer's chat form of the messages, or plain text for a tokenizer without a chat template.
    """
    messages = conversation(row, shown, control_tokens(tokenizer), turns=turns)
    if not tokenizer.chat_template:
        return "\n\n".join([_plain(message) for message in messages] + ["Answer:"])
    try:
        return _chat(messages, tokenizer)
    except TemplateError:  # some templates refuse a system message
        if messages[0]["role"] != "system":
            raise
        system, first, *rest = messages
        return _chat([{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest], tokenizer)


def conversation(row: Row, shown: Iterable[int], control: Sequence[str], *, turns: int | None = None) -> list[Message]:
    """The messages of a row: system text, examples, history, and the question over its sources; or its own ``chat``.

    Args:
        shown: indices of the row's passages that stand in it; passage i is numbered i + 1.
        control: texts that the model would read as control tokens.
        turns: the latest turns of the history that stand in it; None: all.
    """
    if row.chat:  # its marks, fences and white space are somebody's own
        return [{"role": each.role, "content": _harmless(each.content, control, fenced=False)} for each in row.chat]
    template = row.template
    messages: list[Message] = []

    def add(role: str, content: str) -> None:
        messages.append({"role": role, "content": content})

    def asked(question: str, passages: Iterable[tuple[int, Passage]] | None) -> str:
        if not row.grounded:  # there are no sources here, so no fence that could be closed
            return _harmless(question, control, fenced=False).strip()
        sources = "" if passages is None else _sources(passages, control)
        values = {"sources": sources, "question": _harmless(question, control).strip()}
        return fill(_harmless(template.question, control), values).strip()

    if template.system.strip():
        add("system", fill(_harmless(template.system, control), {"abstention": ABSTENTION}))
    for example in template.examples if row.grounded else ():
        add("user", asked(example.question, enumerate(example.passages)))
        add("assistant", _harmless(example.answer, control))
    for turn in row.history[max(0, len(row.history) - turns) :] if turns is not None else row.history:
        add("user", asked(turn.question, None))
        # Its marks number other passages than those below.
        add("assistant", _harmless(without_marks(turn.answer), control) or "…")
    add("user", asked(row.question, [(i, row.passages[i]) for i in shown]))
    return messages


def control_tokens(tokenizer: PromptTokenizer) -> tuple[str, ...]:
    """Texts that the tokenizer reads as control tokens wherever they stand, longest first."""
    added = [token for token in tokenizer.added_tokens_decoder.values() if len(token.content.strip()) > 1]
    texts = {token.content for token in added if token.special or _BRACKETED.fullmatch(token.content)}
    return tuple(sorted(texts, key=lambda t: (-len(t), t)))


def _sources(passages: Iterable[tuple[int, Passage]], control: Sequence[str]) -> str:
    return "\n".join(["<sources>", *(_numbered(i, passage, control) for i, passage in passages), "</sources>"])


def _numbered(index: int, passage: Passage, control: Sequence[str]) -> str:
    """One source. Lines after the first are indented, so that no line of a passage can pose as another source."""
    title = " ".join(_harmless(passage.title, control).split())
    body = "\n  ".join(_harmless(passage.text, control).splitlines())
    return f"[{index + 1}] {title}: {body}" if title else f"[{index + 1}] {body}"


def _harmless(text: str, control: Sequence[str], *, fenced: bool = True) -> str:
    """Text that can neither close the fence nor form a control token, and that can be encoded as UTF-8."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if fenced:
        text = _FENCE.sub("‹", text)
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _chat(messages: list[Message], tokenizer: PromptTokenizer) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return str(text)


def _plain(message: Message) -> str:
    return f"Answer: {message['content']}" if message["role"] == "assistant" else message["content"]


def _encode(text: str, tokenizer: PromptTokenizer) -> list[int]:
    # A chat template writes its own control tokens; plain text gets the tokenizer's (such as BOS).
    return tokenizer.encode(text, add_special_tokens=not tokenizer.chat_template)
