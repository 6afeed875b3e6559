"""Adapters in the layers of a causal model: rows of one batch on different adapters, by peft's ``adapter_names``.

The only place of this engine that knows peft, and the only one that changes the model. Not thread-safe: the engine's
thread owns it and calls it between forward passes, never during one. Which adapters are in memory is the pool's
business; on a CPU their tensors are shared with it, not copied.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import nn

from adapters.row_lora import LoadedLora

_BASE = "__base__"  # peft's word for rows without an adapter
_PROBE = "probe"


class PeftRows:
    """A causal model whose rows can each be on their own adapter."""

    def __init__(self, model: Any) -> None:
        self._base = model
        self._peft: Any = None
        self._attached: dict[str, LoadedLora] = {}

    def generate(self, adapters: Sequence[LoadedLora | None], **arguments: Any) -> None:
        """`transformers` generate, row i on ``adapters[i]`` (None: the base model). Attaches what is missing.

        Args:
            arguments: as of generate; ``input_ids`` [B, T] with B = len(adapters).
        """
        self._attach({a.key: a for a in adapters if a is not None})
        if self._peft is None:
            self._base.generate(**arguments)
        else:
            names = [a.key if a is not None else _BASE for a in adapters]
            self._peft.generate(adapter_names=names, **arguments)

    def effect(self, adapter: LoadedLora, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [T, V] of the base and of the adapter for a prompt ``input_ids`` [1, T]; leaves the model as it was.

        The two passes have the same shape, so that equal numbers mean no effect, not another kernel.
        """
        self._attach({_PROBE: adapter})
        try:
            base = self._peft(input_ids=input_ids, adapter_names=[_BASE]).logits[0].float()  # [T, V]
            adapted = self._peft(input_ids=input_ids, adapter_names=[_PROBE]).logits[0].float()  # [T, V]
        finally:
            self.keep(self._attached.keys() - {_PROBE})
        return base, adapted

    def keep(self, names: Collection[str]) -> None:
        """Detach every adapter that is not among ``names``."""
        gone = [name for name in self._attached if name not in names]
        if not gone:
            return
        for name in gone:
            del self._attached[name]
        if self._peft is None:
            return
        if not self._attached:
            self._base = self._peft.unload()  # the plain model again: peft has no form without an adapter
            self._peft = None
            return
        self._peft.set_adapter(next(iter(self._attached)), inference_mode=True)
        for name in gone:
            self._peft.delete_adapter(name)

    def _attach(self, adapters: dict[str, LoadedLora]) -> None:
        for name, adapter in adapters.items():
            known = self._attached.get(name)
            if known is adapter:
                continue
            self._attached[name] = adapter
            try:
                if known is None:
                    self._inject(name, adapter)
                else:  # evicted and read again since: the tensors are others
                    self._assign(name, adapter)
            except Exception:
                self.keep(self._attached.keys() - {name})
                raise

    def _inject(self, name: str, adapter: LoadedLora) -> None:
        # Built here from checked tensors, never from the adapter's own config: peft would act on more of that than
        # two factors per module. One fullmatch pattern, because a list would match by suffix.
        config = LoraConfig(
            r=next(iter(adapter.factors.values()))[0].shape[1],
            lora_alpha=1,
            target_modules="|".join(re.escape(path) for path in adapter.factors),
            init_lora_weights=False,
            inference_mode=True,
        )
        if self._peft is None:
            self._peft = PeftModel(self._base, config, name, autocast_adapter_dtype=False, low_cpu_mem_usage=True)
        else:
            self._peft.add_adapter(name, config, autocast_adapter_dtype=False, low_cpu_mem_usage=True)
        self._assign(name, adapter)
        self._peft.eval()

    def _assign(self, name: str, adapter: LoadedLora) -> None:
        for path, (a, b) in adapter.factors.items():  # [d_in, r], [r, d_out]; B is scaled already
            layer = self._base.get_submodule(path)
            layer.lora_A[name].weight = nn.Parameter(a.t().to(self._base.device), requires_grad=False)  # [r, d_in]
            layer.lora_B[name].weight = nn.Parameter(b.t().to(self._base.device), requires_grad=False)  # [d_out, r]
            layer.scaling[name] = 1.0
