"""Adapters stacked for decoding: rows on many adapters, each with a token or a few, in two batched products per layer.

A stack holds adapters of one shape, [K, d_in, r] and [K, r, d_out] per module: of one rank bucket, so that one adapter
of rank 64 does not pad those of rank 8, and with the same targets, so that no zeros are multiplied. Adapters stay in
the stack from step to step; when the batch changes, only what joined is copied. Knows tensors; knows no requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from adapters.kinds import AdaptionPrompt, Bottleneck

OWN_PRODUCT = 8  # tokens from which on an adapter is multiplied by itself, without a copy into a stack
_LEAST_RANK = 8


@dataclass(frozen=True)
class LayerChange:
    """What an adapter does to a layer beside its low-rank product.

    Attributes:
        scale_in: [d_in], multiplies what the layer sees.
        scale: [d_out], multiplies what it says, the product included; then ``shift`` [d_out] is added.
        bottleneck: comes last.
    """

    scale_in: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    bottleneck: Bottleneck | None = None


@dataclass(eq=False)
class VirtualTokens:
    """Learned tokens before a row's prompt.

    Attributes:
        embeddings: [n, d]; None where keys and values themselves were learned.
        keys, values: by layer, [heads, n, width]; those of embeddings are computed when first needed.
    """

    count: int
    embeddings: torch.Tensor | None
    keys: Sequence[torch.Tensor] = ()
    values: Sequence[torch.Tensor] = ()


@dataclass(frozen=True, eq=False)
class LoadedLora:
    """An adapter in memory.

    Attributes:
        key: the `AdapterRef.key` it was loaded under.
        factors: by module path, Aᵀ [d_in, r] and scaling·Bᵀ [r, d_out].
        saved: tensors that replace the base's whole, such as the QA head.
        bytes: memory held by all of them.
        changes: by module path, what else it does to a layer (`adapters.row_changes`).
        prompts: by the path of an attention layer, tokens that it attends to besides.
        virtual: what stands before each prompt.
        whole: all weights of a model of its own, by their names in the base (`adapters.whole_models`).
    """

    key: str
    rank: int
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    saved: Mapping[str, torch.Tensor]
    bytes: int
    changes: Mapping[str, LayerChange] = field(default_factory=dict)
    prompts: Mapping[str, AdaptionPrompt] = field(default_factory=dict)
    virtual: VirtualTokens | None = None
    whole: Mapping[str, torch.Tensor] = field(default_factory=dict)


class LoraStack:
    """Adapters of one rank bucket and one set of targets.

    Attributes:
        adapters: what stands at places 0 to K - 1.
        factors: by module path, [places, d_in, r] and [places, r, d_out]; places may be more than K.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.adapters: list[LoadedLora] = []
        self.factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._places = 0

    def hold(self, adapters: Sequence[LoadedLora]) -> None:
        """Hold these and no others; what is held already is not copied again, only moved into a gap."""
        wanted = {id(adapter) for adapter in adapters}
        place = 0
        while place < len(self.adapters):
            if id(self.adapters[place]) in wanted:
                place += 1
                continue
            last = self.adapters.pop()
            if place < len(self.adapters):  # the last fills the gap, and is looked at next
                self.adapters[place] = last
                for a, b in self.factors.values():
                    a[place], b[place] = a[len(self.adapters)], b[len(self.adapters)]
        held = {id(adapter) for adapter in self.adapters}
        new = [adapter for adapter in adapters if id(adapter) not in held]
        if not new:
            return
        self._make_room(len(self.adapters) + len(new), new[0])
        for adapter in new:
            self._copy(adapter, len(self.adapters))
            self.adapters.append(adapter)

    def _make_room(self, places: int, like: LoadedLora) -> None:
        if places <= self._places:
            return
        self._places = 1 << (places - 1).bit_length()
        for module, (a, b) in like.factors.items():
            wide_a = a.new_zeros(self._places, a.shape[0], self._rank)  # [places, d_in, r]
            wide_b = b.new_zeros(self._places, self._rank, b.shape[1])  # [places, r, d_out]
            if module in self.factors:
                known = self.factors[module]
                wide_a[: len(known[0])], wide_b[: len(known[1])] = known
            self.factors[module] = (wide_a, wide_b)

    def _copy(self, adapter: LoadedLora, place: int) -> None:
        for module, (a, b) in adapter.factors.items():
            wide_a, wide_b = self.factors[module]
            wide_a[place, :, : adapter.rank], wide_b[place, : adapter.rank] = a, b
            wide_a[place, :, adapter.rank :] = 0
            wide_b[place, adapter.rank :] = 0


@dataclass(frozen=True, eq=False)
class StackedRows:
    """Tokens ``begin`` to ``end`` (half-open) of a batch are on the stack's adapters, in the stack's order.

    Attributes:
        spread: [K·m], the token at each place of a [K, m] grid; None when the tokens fill it in order.
        back: [end - begin], where in the grid each token stands; None likewise.
    """

    stack: LoraStack
    begin: int
    end: int
    spread: torch.Tensor | None
    back: torch.Tensor | None

    @classmethod
    def of(cls, stack: LoraStack, begin: int, counts: Sequence[int], device: torch.device | str) -> StackedRows:
        """``counts[k]`` consecutive tokens, at least one, are on the stack's adapter k, from token ``begin`` on."""
        end, most = begin + sum(counts), max(counts)
        if all(count == most for count in counts):
            return cls(stack, begin, end, None, None)
        spread, back, token = [], [], 0
        for k, count in enumerate(counts):
            spread += [token + min(i, count - 1) for i in range(most)]
            back += [k * most + i for i in range(count)]
            token += count
        return cls(stack, begin, end, torch.tensor(spread, device=device), torch.tensor(back, device=device))

    def add(self, rows: torch.Tensor, out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
        """Add each token's low-rank product.

        Args:
            rows: [tokens, d_in].
            out: [tokens, d_out], changed in place.
            a, b: the stack's factors of the layer, [places, d_in, r] and [places, r, d_out].
        """
        k = len(self.stack.adapters)
        x, y = rows[self.begin : self.end], out[self.begin : self.end]  # [n, d_in], [n, d_out]
        grid = x if self.spread is None else x[self.spread]  # [K·m, d_in]
        grid = grid.view(k, -1, x.shape[-1]).to(a.dtype)  # [K, m, d_in]
        narrow = torch.bmm(grid, a[:k])  # [K, m, r]
        if self.back is None and b.dtype == y.dtype and y.is_contiguous():
            y.view(k, -1, y.shape[-1]).baddbmm_(narrow, b[:k])  # [K, m, d_out]: in place, nothing is made and copied
            return
        product = torch.bmm(narrow, b[:k]).view(-1, y.shape[-1])  # [K·m, d_out]
        y.add_(product if self.back is None else product[self.back])


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How rows that bring one token each are ordered for their adapters.

    Attributes:
        order: order[i] is the row that stands at i.
        runs: (adapter, begin, end) of adapters with many rows.
        stacked: the others.
    """

    order: Sequence[int]
    runs: Sequence[tuple[LoadedLora, int, int]]
    stacked: Sequence[StackedRows]


class LoraStacks:
    """The stacks of one model, and the order of a batch's rows that suits them."""

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        self._stacks: dict[tuple[int, frozenset[str]], LoraStack] = {}
        self._last: tuple[tuple[int, ...], Arrangement] | None = None
        self._alive: list[LoadedLora | None] = []  # ids of `_last` stay theirs while these live

    def arrange(self, adapters: Sequence[LoadedLora | None]) -> Arrangement:
        """Order rows by adapter: base, adapters with many rows, stacks. The same batch gets the same arrangement."""
        key = tuple(map(id, adapters))
        if self._last is None or self._last[0] != key:
            self._last, self._alive = (key, self._arranged(adapters)), list(adapters)
        return self._last[1]

    def _arranged(self, adapters: Sequence[LoadedLora | None]) -> Arrangement:
        rows: dict[int, list[int]] = {}
        order: list[int] = []
        by_id: dict[int, LoadedLora] = {}
        for i, adapter in enumerate(adapters):
            if adapter is None:
                order.append(i)
            else:
                rows.setdefault(id(adapter), []).append(i)
                by_id[id(adapter)] = adapter
        runs = []
        for identity, own in rows.items():
            if len(own) >= OWN_PRODUCT:
                runs.append((by_id[identity], len(order), len(order) + len(own)))
                order += own
        short: dict[tuple[int, frozenset[str]], list[LoadedLora]] = {}
        for identity, own in rows.items():
            if len(own) < OWN_PRODUCT:
                adapter = by_id[identity]
                bucket = max(_LEAST_RANK, 1 << (adapter.rank - 1).bit_length())
                short.setdefault((bucket, frozenset(adapter.factors)), []).append(adapter)
        self._stacks = {shape: self._stacks.get(shape) or LoraStack(shape[0]) for shape in short}
        stacked = []
        for shape, members in short.items():
            stack = self._stacks[shape]
            stack.hold(members)
            counts = [len(rows[id(adapter)]) for adapter in stack.adapters]
            stacked.append(StackedRows.of(stack, len(order), counts, self._device))
            for adapter in stack.adapters:
                order += rows[id(adapter)]
        return Arrangement(order, runs, stacked)
