"""vLLM's shapes of requests, as far as the model server holds them; what it cannot hold is refused with the reason."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from adapters import AdapterRef, ChatMessage, Row
from app.openai_schemas import ChatFields
from app.openai_schemas import ChatMessage as SentMessage
from app.schemas import Request


class ModelChatRequest(ChatFields):
    """A chat, whose messages the model reads as they are."""

    unsupported = {  # noqa: RUF012 - a class variable of the base's
        **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), "Tools are not supported."),
        **dict.fromkeys(("presence_penalty", "frequency_penalty"), "Penalties are not supported; leave them at 0."),
        "logit_bias": "logit_bias is not supported.",
        "top_logprobs": "Only the chosen tokens' log probabilities are given; leave top_logprobs at 0.",
        "audio": "Audio is not supported.",
    }

    messages: list[SentMessage] = Field(min_length=1, max_length=2000)
    logprobs: bool = False

    def row(self, adapter: AdapterRef | None) -> Row:
        """The row to answer."""
        messages = [("system" if m.role == "developer" else m.role, m.text) for m in self.messages]
        owner = self.cache_salt or ""
        return Row(
            "",
            (),
            adapter=adapter,
            max_tokens=self.most_tokens,
            share_key=owner,
            cache_salt=owner,
            temperature=self.temperature or 0.0,
            top_p=self.top_p if self.top_p is not None else 1.0,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            grounded=False,
            chat=tuple(ChatMessage(role, text) for role, text in messages),
        )


class LoadLora(Request):
    """An adapter to be loaded. ``load_inplace`` would change what a name means, which this server never does."""

    lora_name: str = Field(min_length=1, max_length=300)
    lora_path: str = Field(min_length=1, max_length=4096)
    load_inplace: bool | None = None
    base_model_name: str | None = None


class UnloadLora(Request):
    lora_name: str = Field(min_length=1, max_length=300)
    lora_int_id: Any = None
