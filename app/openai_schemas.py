"""OpenAI's shapes of requests, as far as this service holds them; what it cannot hold is refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.schemas import AskRequest, Collection, HistoryTurn, Request, TopK

_UNSUPPORTED = {
    "tools": "Tools are not supported: answers come from documents.",
    "tool_choice": "Tools are not supported: answers come from documents.",
    "functions": "Functions are not supported: answers come from documents.",
    "function_call": "Functions are not supported: answers come from documents.",
    "logit_bias": "logit_bias is not supported.",
    "logprobs": "Log probabilities are not given; lorebase.confidence is.",
    "top_logprobs": "Log probabilities are not given; lorebase.confidence is.",
    "audio": "Audio is not supported.",
    "presence_penalty": "Penalties are not supported; leave them at 0.",
    "frequency_penalty": "Penalties are not supported; leave them at 0.",
}
_TEXT_FORMAT = {"type": "text"}


class TextPart(Request):
    type: Literal["text"]
    text: str


class ChatMessage(Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, message: Any) -> Any:
        parts = message.get("content") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and part.get("type") not in ("text", None):
                raise ValueError(f"content of type {str(part['type'])[:40]!r} is not supported; send text")
        return message

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class LorebaseOptions(Request):
    """What this service can do beyond OpenAI's fields; in the official client: ``extra_body={"lorebase": {…}}``."""

    retrieval: bool = Field(True, description="False: a language model answers from the conversation alone.")
    top_k: TopK = 5
    filter: dict[str, Any] | None = None
    collection: Collection | None = None
    min_confidence: float | None = Field(None, ge=0, le=1)
    template: str | None = Field(None, max_length=80)


class StreamOptions(Request):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatFields(Request):
    """What a chat is asked with, wherever the words of its answer come from."""

    unsupported: ClassVar[Mapping[str, str]] = {}

    model: str = Field(min_length=1, max_length=200, description="`name`, `name@version` or the base model.")
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float | None = Field(None, ge=0, le=2, description="Unset: 0.")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(None, max_length=16)
    n: Literal[1] | None = None
    user: str | None = Field(None, description="Requests of one user are in the same arm of a canary.")
    cache_salt: str | None = Field(None, max_length=200, description="As vLLM's; no cache is shared here anyway.")
    response_format: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for field, reason in cls.unsupported.items():
            if body.get(field) not in (None, False, 0, [], {}, "none"):
                raise ValueError(reason)
        if body.get("n") not in (None, 1):
            raise ValueError("n: one answer is given; leave n at 1")
        if body.get("response_format") not in (None, _TEXT_FORMAT):
            raise ValueError("response_format: only text is given")
        return {key: value for key, value in body.items() if key not in cls.unsupported}

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        return self

    @property
    def most_tokens(self) -> int:
        """Tokens that the answer may have."""
        return self.max_completion_tokens or self.max_tokens or 256


class ChatRequest(ChatFields):
    unsupported = _UNSUPPORTED

    lorebase: LorebaseOptions = Field(default_factory=LorebaseOptions)

    @model_validator(mode="after")
    def _ends_with_a_question(self) -> Self:
        if self.messages[-1].role != "user" or not self.messages[-1].text.strip():
            raise ValueError("messages: the last one must be the user's and hold a question")
        return self

    @property
    def system(self) -> str:
        """The system (or developer) messages, joined."""
        return "\n\n".join(m.text for m in self.messages if m.role in ("system", "developer") and m.text.strip())

    def ask(self) -> AskRequest:
        """The last message as a question, those before as its history.

        Neighbouring messages of one role are joined; an assistant's message before any user's is left out.
        Raises pydantic's ValidationError for what /ask does not take either.
        """
        turns: list[tuple[list[str], list[str]]] = []
        for message in self.messages:
            if message.role == "user":
                if not turns or turns[-1][1]:
                    turns.append(([], []))
                turns[-1][0].append(message.text)
            elif message.role == "assistant" and turns:
                turns[-1][1].append(message.text)
        *earlier, (question, _) = turns
        sampling = {
            name: value
            for name in ("temperature", "top_p", "seed", "stop")
            if (value := getattr(self, name)) is not None
        }
        options = self.lorebase
        return AskRequest(
            question="\n\n".join(question),
            history=[HistoryTurn(question="\n\n".join(q), answer="\n\n".join(a)) for q, a in earlier],
            max_tokens=self.most_tokens,
            top_k=options.top_k,
            filter=options.filter,
            collection=options.collection,
            min_confidence=options.min_confidence,
            template=options.template,
            **sampling,
        )


class LoadAdapterRequest(Request):
    lora_name: str = Field(min_length=1, max_length=200)
    lora_path: str | None = Field(None, description="Never opened; adapters are uploaded to /adapters.")
    load_inplace: bool | None = None


class UnloadAdapterRequest(Request):
    lora_name: str = Field(min_length=1, max_length=200)
    lora_int_id: int | None = None
