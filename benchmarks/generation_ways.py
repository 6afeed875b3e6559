"""Ways to generate from a batch of prompts, each row on its own adapter: this project's engine and what others offer.

Every way takes the same prompts, adapters and lengths, and chooses the likeliest token. Knows libraries; knows no
clock and no table.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.utils import logging as transformers_logging

from adapters.causal import CausalEngine
from adapters.engine import AdapterRef, Done, Event, Failed, Row
from benchmarks.language_models import text_of

Prompts = Sequence[Sequence[int]]
_BLOCK = 32  # tokens of a page of generate_batch's cache
Adapters = Sequence[int | None]  # of each row, by number; None: the base model


class Way(Protocol):
    """Generates from prompts."""

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """Generate ``lengths[i]`` tokens for row i; returns how many were asked for and made."""

    def close(self) -> None:
        """Let go of the model."""


class OurEngine:
    """The engine as the service uses it, from texts to answers.

    Args:
        prepared: how many of the adapters are brought into memory at once; None: all.
        adapter_bytes: memory for adapters.
    """

    def __init__(
        self,
        model: Path,
        adapters: Sequence[AdapterRef],
        *,
        rows: int,
        prepared: int | None = None,
        adapter_bytes: int = 2 * 1024**3,
    ) -> None:
        self._adapters = adapters
        self._engine = CausalEngine(
            model,
            device="cpu",
            max_batch=rows,
            max_waiting=4096,
            adapter_budget_bytes=adapter_bytes,
            kv_budget_bytes=2 * 1024**3,
        )
        self._engine.load()
        for number in range(len(adapters) if prepared is None else min(prepared, len(adapters))):
            self.prepare(number)

    def prepare(self, number: int) -> None:
        """Bring an adapter into memory."""
        self._engine.prepare(self._adapters[number])

    def unload(self, number: int) -> None:
        """Let go of an adapter."""
        self._engine.unload(self._adapters[number])

    def resident_bytes(self) -> int:
        """Memory that adapters take."""
        return sum(self._engine.adapter_memory().resident.values())

    @property
    def engine(self) -> CausalEngine:
        """The engine itself."""
        return self._engine

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """Ask all at once and wait for the last. Raises what the first failed row failed with."""
        left = threading.Semaphore(0)
        ended: list[Done | Failed] = []

        def hear(event: Event) -> None:
            if isinstance(event, Done | Failed):
                ended.append(event)
                left.release()

        for prompt, adapter, length in zip(prompts, adapters, lengths, strict=True):
            ref = None if adapter is None else self._adapters[adapter]
            row = Row(text_of(prompt), (), adapter=ref, max_tokens=length, grounded=False, share_key=str(adapter))
            self._engine.submit(row, hear)
        for _ in prompts:
            left.acquire()
        for event in ended:
            if isinstance(event, Failed):
                raise event.error
        return sum(event.completion_tokens for event in ended if isinstance(event, Done))

    def close(self) -> None:
        """Stop the engine's thread."""
        self._engine.close()


class PaddedGenerate:
    """transformers' `generate` over one padded batch, as long as its longest row; the base model only."""

    def __init__(self, model: Path) -> None:
        self._model = _load(model)

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """One call for all rows."""
        return _padded(self._model, prompts, lengths)

    def close(self) -> None:
        """Nothing to stop."""


class PeftMixedBatch:
    """peft's own mixed batch: `generate` with ``adapter_names``."""

    def __init__(self, model: Path, adapters: Sequence[AdapterRef]) -> None:
        self._model = _load_peft(model, adapters)

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """One call for all rows."""
        names = ["__base__" if adapter is None else str(adapter) for adapter in adapters]
        return _padded(self._model, prompts, lengths, adapter_names=names)

    def close(self) -> None:
        """Nothing to stop."""


class PeftInTurn:
    """peft with one adapter at a time: `set_adapter`, then `generate` for that adapter's rows."""

    def __init__(self, model: Path, adapters: Sequence[AdapterRef]) -> None:
        self._model = _load_peft(model, adapters)

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """One call per adapter; base rows are not offered here."""
        made = 0
        for adapter in sorted({a for a in adapters if a is not None}):
            own = [i for i, a in enumerate(adapters) if a == adapter]
            self._model.set_adapter(str(adapter))
            made += _padded(self._model, [prompts[i] for i in own], [lengths[i] for i in own])
        return made

    def close(self) -> None:
        """Nothing to stop."""


class ContinuousBatching:
    """transformers' `generate_batch` (continuous batching over a paged cache); it knows no adapters."""

    def __init__(self, model: Path) -> None:
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
        self._model = _load(model)

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """One call for all rows, which must be of one length."""
        if len(set(lengths)) != 1:
            raise ValueError("generate_batch takes one length for all rows")
        config = GenerationConfig(max_new_tokens=lengths[0], do_sample=False, eos_token_id=-1, pad_token_id=0)
        tokens = sum(map(len, prompts)) + sum(lengths)
        # Left to itself it takes most of the machine's memory for its cache, and is killed.
        room = ContinuousBatchingConfig(page_size=_BLOCK, num_blocks=tokens // _BLOCK + 2 * len(prompts) + 8,
                                        max_batch_tokens=512)  # fmt: skip
        found = self._model.generate_batch(
            [list(p) for p in prompts], generation_config=config, continuous_batching_config=room, progress_bar=False
        )
        return sum(len(output.generated_tokens) for output in found.values())

    def close(self) -> None:
        """Nothing to stop."""


class PolyLora:
    """The `polylora` package from PyPI, which wraps a model's forward pass; decoding is a plain greedy loop here.

    Raises:
        ImportError: it is not installed.
    """

    def __init__(self, model: Path, adapters: Sequence[AdapterRef], *, rank: int, targets: Sequence[str]) -> None:
        from polylora import PolyLoraConfig, PolyLoraModel

        config = PolyLoraConfig(
            max_gpu_adapters=len(adapters), max_rank=rank, target_modules=list(targets), enforce_right_padding=False
        )
        self._model = PolyLoraModel(_load(model), config)
        for number, adapter in enumerate(adapters):
            tuned = PeftModel.from_pretrained(_load(model), str(adapter.folder))
            self._model.add_adapter_from_peft_model(str(number), tuned)

    def generate(self, prompts: Prompts, adapters: Adapters, lengths: Sequence[int]) -> int:
        """Greedy decoding of rows of one length."""
        names = ["__base__" if adapter is None else str(adapter) for adapter in adapters]
        ids, cache = torch.tensor([list(p) for p in prompts]), None  # [B, T]
        with torch.inference_mode():
            for _ in range(max(lengths)):
                out = self._model(
                    input_ids=ids, past_key_values=cache, use_cache=True, adapter_ids=names, logits_to_keep=1
                )
                ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values  # [B, 1]
        return sum(lengths)

    def close(self) -> None:
        """Nothing to stop."""


def _load(model: Path) -> Any:
    transformers_logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval().requires_grad_(False)


def _load_peft(model: Path, adapters: Sequence[AdapterRef]) -> Any:
    tuned: Any = None
    for number, adapter in enumerate(adapters):
        if tuned is None:
            tuned = PeftModel.from_pretrained(_load(model), str(adapter.folder), adapter_name=str(number))
        else:
            tuned.load_adapter(str(adapter.folder), adapter_name=str(number))
    return tuned.eval()


def _padded(model: Any, prompts: Prompts, lengths: Sequence[int], **options: Any) -> int:
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])  # [B, T], padded on the left
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])  # [B, T]
    config = GenerationConfig(max_new_tokens=max(lengths), do_sample=False, eos_token_id=None, pad_token_id=0)
    with torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=seen, generation_config=config, **options)
    return sum(lengths)
