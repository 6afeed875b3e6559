"""Adapters in a model server: brought there, kept, taken out again, and proven to do something there.

Two ways, by what the server says it is. vLLM reads a folder that it sees too (``lora_path``); another Lorebase opens no
path of a client, so the two files are sent into its registry. Knows the server's calls and peft's folders; knows no
rows, no pool and no tenants.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from adapters.engine import AdapterRef
from adapters.errors import AdapterError, InvalidAdapter, NotSupported, UpstreamFailed
from adapters.remote.model_server import Kind, ModelServer, Refused, TryAgain

_log = logging.getLogger(__name__)
_KEY_LETTERS = 40
_PROBE: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "What does the probe measure?"}],
    "max_tokens": 8,
    "temperature": 0.0,
    "seed": 0,
    "logprobs": True,
    "stream": True,
}
_NO_EFFECT = 1e-5  # difference of log-probabilities up to which two answers are the same
NOT_TAKEN = (
    "The model server takes no adapters at run time. vLLM does with --enable-lora and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and so does another Lorebase; or ask for base."
)


@dataclass(eq=False)
class ServedAdapter:
    """An adapter that the server was given.

    Attributes:
        model: what the server knows it by.
        bytes: what it holds there, about.
        loads: how often it was brought there: again, when the server had forgotten it.
    """

    ref: AdapterRef
    model: str
    bytes: int
    loads: int = 1


class AdapterLoader:
    """Brings adapters into one server. Calls follow one another in the order in which they were begun, so that taking
    one out cannot overtake bringing it back. Lives in the server's event loop.

    Args:
        path_there: where the server sees a folder of ours.
    """

    def __init__(self, server: ModelServer, path_there: Callable[[Path], str]) -> None:
        self._server, self._path_there = server, path_there
        self._turn = asyncio.Lock()

    async def bring(self, ref: AdapterRef, kind: Kind) -> str:
        """Load an adapter; the model name it answers to then. Raises AdapterError, TryAgain."""
        async with self._turn:
            return await self._bring(ref, kind)

    async def bring_again(self, adapter: ServedAdapter, seen: int, kind: Kind) -> None:
        """Load what the server has forgotten, once, however many rows find out; ``seen`` is what ``loads`` was when the
        row asked."""
        async with self._turn:
            if adapter.loads == seen:
                adapter.model = await self._bring(adapter.ref, kind)
                adapter.loads += 1

    async def take_out(self, model: str, kind: Kind) -> None:
        """Unload an adapter. Another Lorebase forgets it altogether, so that nothing stays there of what is deleted."""
        async with self._turn:
            try:
                await self._take_out(model, kind)
            except (Refused, TryAgain) as error:
                if getattr(error, "status", 0) != 404:  # then it has forgotten the adapter by itself
                    _log.warning("the model server does not unload %s: %s", model, error)

    async def prove(self, ref: AdapterRef, kind: Kind, base: str) -> None:
        """Refuse an adapter that the server does not take, or that changes nothing there.

        Raises:
            InvalidAdapter: with the server's reason, or ``no_effect``.
        """
        async with self._turn:
            model = await self._bring(ref, kind)
            try:
                if kind == "vllm":  # a Lorebase has proven it already
                    scores = await self._scores(base), await self._scores(model)
                    if all(scores) and _same(*scores):
                        raise InvalidAdapter("no_effect", "The adapter changes nothing: it answers as the base does.")
            finally:
                with suppress(Refused, TryAgain):
                    await self._take_out(model, kind)

    async def _bring(self, ref: AdapterRef, kind: Kind) -> str:
        try:
            with ExitStack() as files:
                folder = await asyncio.to_thread(files.enter_context, ref.at_hand())
                if kind == "vllm":
                    return await self._load_from_path(name_of(ref, kind), self._path_there(folder))
                if kind == "lorebase":
                    return await self._send(name_of(ref, kind), ref.sha256, folder)
        except Refused as error:
            raise _refusal(error) from error
        raise NotSupported(NOT_TAKEN)

    async def _load_from_path(self, name: str, path: str) -> str:
        body = {"lora_name": name, "lora_path": path}
        try:
            await self._server.call("POST", "/load_lora_adapter", json=body)
        except Refused as error:
            if "already been loaded" not in str(error):
                raise
            # By whom, and from where, nobody knows any more: the name must mean this folder.
            await self._server.call("POST", "/unload_lora_adapter", json={"lora_name": name})
            await self._server.call("POST", "/load_lora_adapter", json=body)
        return name

    async def _send(self, name: str, sha256: str, folder: Path) -> str:
        version = await self._registered(name, sha256)
        if version is None:
            contents = await asyncio.to_thread(
                lambda: [(file, (folder / file).read_bytes()) for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
            )
            sent = await self._server.call(
                "POST", f"/adapters/{name}/versions", files=[("files", content) for content in contents]
            )
            version = sent["version"]
        model = f"{name}@{version}"
        await self._server.call("POST", "/load_lora_adapter", json={"lora_name": model})
        return model

    async def _registered(self, name: str, sha256: str) -> int | None:
        try:
            known = await self._server.call("GET", f"/adapters/{name}")
        except Refused as error:
            if error.status != 404:
                raise
            return None
        return next((int(v["version"]) for v in known.get("versions", []) if v.get("sha256") == sha256), None)

    async def _take_out(self, model: str, kind: Kind) -> None:
        if kind == "vllm":
            await self._server.call("POST", "/unload_lora_adapter", json={"lora_name": model})
        elif kind == "lorebase":
            await self._server.call("DELETE", f"/adapters/{model.partition('@')[0]}")

    async def _scores(self, model: str) -> list[tuple[str, float]]:
        """Tokens and log-probabilities of a short answer; none where the server tells no probabilities."""
        found: list[tuple[str, float]] = []
        try:
            async with aclosing(self._server.chat({**_PROBE, "model": model})) as chunks:
                async for chunk in chunks:
                    for choice in chunk.get("choices") or []:
                        entries = (choice.get("logprobs") or {}).get("content") or []
                        found += [(str(e.get("token")), float(e.get("logprob") or 0.0)) for e in entries]
        except Refused as error:
            raise _refusal(error) from error
        return found


def name_of(ref: AdapterRef, kind: Kind) -> str:
    """What a server is to know this very version by, and nothing else ever. A Lorebase takes fewer characters."""
    return ref.name if ref.name and kind == "vllm" else ref.key[:_KEY_LETTERS]


def _same(one: list[tuple[str, float]], other: list[tuple[str, float]]) -> bool:
    return len(one) == len(other) and all(
        a == b and abs(p - q) <= _NO_EFFECT for (a, p), (b, q) in zip(one, other, strict=True)
    )


def _refusal(error: Refused) -> AdapterError:
    """What it means for an adapter that the server refused it."""
    said = str(error)
    if error.reason:
        return InvalidAdapter(error.reason, said)
    if error.status == 413:
        return InvalidAdapter("size", f"The adapter is larger than the model server takes: {said}")
    if "No adapter found" in said:
        return UpstreamFailed(
            f"The model server does not see the adapter's folder ({said}). Let it see the folder LOREBASE_DATA, and "
            "say by LOREBASE_OPENAI_DATA where."
        )
    if error.status in (404, 405):
        return NotSupported(NOT_TAKEN)
    if error.status in (400, 422):
        reason = "rank" if "rank" in said.casefold() else "config"
        return InvalidAdapter(reason, f"The model server does not take the adapter: {said}")
    return UpstreamFailed(f"The model server refused an adapter ({error.status}): {said}")
