"""How many tokens a text has for a model whose tokenizer is not at hand: an estimate on the safe side.

Lets `adapters.prompt.pack` choose passages for a model server as it does for a model in this process.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from adapters.prompt import COMMON_CONTROL_TOKENS, Message

_BYTES_PER_TOKEN = 3  # English has four to five bytes a token in today's vocabularies, other scripts two to four


class EstimatingTokenizer:
    """Implements `adapters.prompt.PromptTokenizer`: one token for every three bytes of UTF-8."""

    chat_template: Any = None

    def __init__(self) -> None:
        self.added_tokens_decoder: dict[int, Any] = {
            i: SimpleNamespace(content=token, special=True) for i, token in enumerate(COMMON_CONTROL_TOKENS)
        }

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [0] * -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)

    def apply_chat_template(
        self, conversation: list[Message], *, tokenize: bool, add_generation_prompt: bool, enable_thinking: bool
    ) -> Any:
        raise NotImplementedError("without a chat template nobody calls this")
