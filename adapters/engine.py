"""The seam every engine stands behind: rows in, typed events out, cancellable.

An engine knows questions, passages and adapter versions. It never knows tenants, HTTP or documents: `share_key` is
an opaque word for fairness between owners, `cache_salt` an opaque word that keeps cached state of owners apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from adapters.template import DEFAULT_TEMPLATE, ChatMessage, Passage, PromptTemplate, Turn


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An immutable adapter version: a folder in peft's format and the sha256 of its weights.

    Attributes:
        config_sha256: of its config, where that is known.
        name: this very version's, where it has one, for people and other servers, such as ``tenant/adapter@version``.
        bring: brings the files into the folder and keeps them there within a block; None: there they are.
    """

    sha256: str
    folder: Path
    name: str = field(default="", compare=False)
    bring: Callable[[], AbstractContextManager[None]] | None = field(default=None, compare=False, repr=False)
    config_sha256: str | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Names this very version, hexadecimal: two with equal weights may differ in scaling, or in owner."""
        return hashlib.sha256(f"{self.folder}\n{self.sha256}".encode()).hexdigest()

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """The folder, with the files in it for as long as the block lasts. Raises AdapterFilesUnavailable."""
        with nullcontext() if self.bring is None else self.bring():
            yield self.folder


@dataclass(frozen=True, slots=True)
class Row:
    """One question to answer.

    Attributes:
        passages: in retrieval order; an empty tuple is answered with an abstention by the reader.
        adapter: None means the base model.
        max_tokens: tokens an answer may have at most, at least 1.
        min_confidence: below it the engine abstains; None takes the engine's calibrated threshold, 0 never abstains.
        temperature: 0 takes the likeliest token at each step; above 0 tokens are drawn from the scores divided by it.
            This and the next three are a language model's; a reader, which chooses a span, takes no notice of them.
        top_p: draw only from the likeliest tokens that together have this probability, above 0 and up to 1.
        seed: a row with the same seed draws the same tokens again; None draws anew each time.
        stop: texts that end an answer; the answer is what stands before the first of them.
        template: how a language model is asked; a reader, which has no prompt, takes no notice of it or of history.
        history: earlier questions and answers of the conversation, oldest first.
        grounded: answer from the passages only. False: a language model answers from the conversation itself, with
            no sources, no abstention for want of them and no citations; a reader refuses such a row.
        chat: a whole conversation, composed elsewhere. A language model reads its messages as they are, whole or not at
            all, and its words are the answer as they come: ``question``, ``passages``, ``template`` and ``history``
            count for nothing, there are no citations and no abstention. ``grounded`` is False then.
    """

    question: str
    passages: tuple[Passage, ...]
    adapter: AdapterRef | None = None
    max_tokens: int = 256
    min_confidence: float | None = None
    share_key: str = ""
    cache_salt: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    template: PromptTemplate = DEFAULT_TEMPLATE
    history: tuple[Turn, ...] = ()
    grounded: bool = True
    chat: tuple[ChatMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class PassageRead:
    """A passage has been read; ``score`` is comparable between the passages of one row only."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text, in order.

    Attributes:
        log_probabilities: of the model's tokens since the last piece, natural logarithms, where the engine tells them.
            Text may be held back, so they need not be those of this text alone.
    """

    text: str
    log_probabilities: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Span:
    """Text that stands in a passage: ``passages[passage].text[start:end]``, half-open, in code points."""

    passage: int
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Done:
    """The row is complete.

    Attributes:
        answer: the answer's text; empty when abstained.
        confidence: from 0 to 1.
        spans: what the answer rests on, best first. The reader's are exact; a language model's are whole passages.
        dropped: indices of passages that did not fit the model's context.
        dropped_turns: how many of the oldest turns of the history did not fit.
        unknown_marks: how many ``[n]`` marks named no passage; they were left out of the answer.
        queued_seconds: how long the row waited before the engine began to work on it.
    """

    answer: str
    abstained: bool
    confidence: float
    spans: tuple[Span, ...]
    prompt_tokens: int
    completion_tokens: int
    dropped: tuple[int, ...] = ()
    finish_reason: Literal["stop", "length"] = "stop"
    dropped_turns: int = 0
    unknown_marks: int = 0
    queued_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The row could not be answered; ``error`` is an AdapterError a caller can act on."""

    error: Exception


Event = PassageRead | Token | Done | Failed
Deliver = Callable[[Event], None]


@dataclass(frozen=True)
class AdapterFacts:
    """What an engine found out about an adapter it accepts.

    Attributes:
        rank: of low-rank products; for other kinds their width or number of learned tokens, 0 where there is none.
        kind: such as ``lora`` or ``prefix_tuning``: see `adapters.kinds`.
    """

    sha256: str
    bytes: int
    rank: int
    targets: tuple[str, ...] = field(default=())
    kind: str = "lora"


@dataclass(frozen=True)
class AdapterMemory:
    """Which adapters are in memory, by `AdapterRef.key`; all others are only registered.

    Attributes:
        resident: bytes that each one in memory holds.
        loading: those on their way there.
        pinned: those that stay.
        loads, hits, evictions: how often an adapter was read from disk, was there when a row asked for it, made room.
        load_seconds: time that the loads took, together.
    """

    budget_bytes: int = 0
    resident: Mapping[str, int] = field(default_factory=dict)
    loading: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    loads: int = 0
    hits: int = 0
    evictions: int = 0
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine holds at this moment, and what it has done since it was made.

    Attributes:
        waiting: rows that were submitted and not begun.
        running: rows that are worked on.
        steps: batches computed; ``step_rows`` is the sum of their rows, so that their quotient is the mean batch size.
        kv_bytes: keys and values held for rows; 0 where an engine keeps none. ``kv_budget_bytes``: their limit.
    """

    waiting: int
    running: int
    steps: int = 0
    step_rows: int = 0
    kv_bytes: int = 0
    kv_budget_bytes: int = 0


class Submission(Protocol):
    """A row under way."""

    def cancel(self) -> None:
        """Stop working on the row. No event is delivered once this has returned; one that waits makes room at once, one
        that is worked on leaves before the next step."""


class Engine(Protocol):
    """Answers rows, each on its own adapter, in shared batches.

    `submit` may be called from any thread. ``deliver`` is called from the engine's own threads with zero or more
    PassageRead and Token events, then exactly one Done or Failed; it must not block.
    """

    @property
    def name(self) -> str:
        """The base model as people call it."""

    @property
    def generates(self) -> bool:
        """Whether it writes text from a prompt, and so takes templates, history and sampling; a reader does not."""

    @property
    def fingerprint(self) -> str:
        """Hash of the base weights that adapters are trained on."""

    @property
    def weight_bytes(self) -> int:
        """Memory of the base's weights, which a whole fine-tuned model takes once more; 0 where none can be served."""

    @property
    def failure(self) -> str | None:
        """Why no row can be answered now, in words; None while they can. An engine in this process has then stopped for
        good; one over a model server may come back."""

    def load(self) -> None:
        """Load the base model and start the engine's thread. Raises ModelUnavailable."""

    def close(self) -> None:
        """Finish the running batch, fail what waits, stop the thread. Idempotent."""

    def check(self, folder: Path) -> AdapterFacts:
        """Prove that an adapter fits this base and has an effect. Raises InvalidAdapter with the reason."""

    def prepare(self, adapter: AdapterRef) -> None:
        """Make an adapter resident, checking its hash; blocks on disk. Raises InvalidAdapter."""

    def prefetch(self, adapter: AdapterRef, share_key: str = "") -> None:
        """Begin to make an adapter resident, for a row that will come in a moment, and return at once. What goes wrong
        is told to the row."""

    def pin(self, adapter: AdapterRef) -> None:
        """Make an adapter resident, in the background, and keep it so. Raises AdapterMemoryFull."""

    def unpin(self, adapter: AdapterRef) -> None:
        """Let a pinned adapter make room for others again. Idempotent."""

    def unload(self, adapter: AdapterRef) -> None:
        """Let go of a resident adapter, pinned or not, once no row uses it; a later row makes it resident again."""

    def adapter_memory(self) -> AdapterMemory:
        """Which adapters are in memory, and what happened there so far."""

    def status(self) -> EngineStatus:
        """How busy it is; cheap, from any thread, at any time."""

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        """Queue a row and return at once; its adapter is made resident meanwhile, and a row whose adapter is refused
        hears Failed with InvalidAdapter. Raises RequestTooLong, QueueFull, ModelUnavailable, InvalidAdapter."""
