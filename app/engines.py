"""Which engine the settings ask for.

Knows settings and the engines' names; each is imported when it is made, since each imports a model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters import Engine
from app.settings import BUILTIN, REMOTE, Settings

if TYPE_CHECKING:
    from adapters import CausalEngine


def engine_of(settings: Settings) -> Engine:
    """The engine of the settings, not loaded yet. Each is imported here, since each imports a model library."""
    if settings.model == BUILTIN:
        from adapters import ReaderEngine

        return ReaderEngine(
            dtype=settings.dtype,
            adapter_budget_bytes=settings.adapter_memory_mb * 1024**2,
            max_waiting=settings.max_waiting,
        )
    if settings.model.startswith(REMOTE):
        from adapters import RemoteEngine

        return RemoteEngine(
            settings.model.removeprefix(REMOTE),
            settings.openai_url,
            key=settings.openai_key.get_secret_value() if settings.openai_key else None,
            context=settings.openai_context,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            silence_seconds=settings.openai_silence_seconds,
            adapter_budget_bytes=settings.adapter_memory_mb * 1024**2,
            path_there=settings.path_there,
        )
    return causal_engine_of(settings)


def causal_engine_of(settings: Settings) -> CausalEngine:
    """The engine of a language model in this process."""
    from adapters import CausalEngine

    return CausalEngine(
        settings.model,
        dtype=settings.dtype,
        quantized=settings.quantize,
        merge_after=settings.merge_after,
        max_batch=settings.max_batch,
        kv_budget_bytes=settings.kv_memory_mb * 1024**2,
        prefill_tokens=settings.prefill_tokens,
        adapter_budget_bytes=settings.adapter_memory_mb * 1024**2,
        max_waiting=settings.max_waiting,
    )


def judge_of(settings: Settings) -> Engine:
    """The engine that judges answers, not loaded yet."""
    from adapters import RemoteEngine

    return RemoteEngine(
        (settings.judge or "").removeprefix(REMOTE),
        settings.judge_url,
        key=settings.judge_key.get_secret_value() if settings.judge_key else None,
        silence_seconds=settings.openai_silence_seconds,
    )
