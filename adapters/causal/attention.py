"""Attention over a packed batch: the tokens of all rows in one line, each row attending to its own slot.

A model of transformers calls `packed_attention` instead of its own kernel. New keys and values go straight into the
slots; rows that bring one token and stand side by side are attended together, a longer piece of a prompt by itself. So
nothing is padded but what neighbours differ in length. Knows tensors and slots; knows no rows, adapters or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from adapters.causal.cache import Block, Slot

NAME = "lorebase_packed"
_WASTE = 1.25  # rows are attended together while reading them all costs at most this much more than each alone
_UNKNOWN = ("s_aux", "position_bias", "head_mask")

View = tuple[int, int, torch.Tensor | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one row in the batch: ``count`` of them, the first at position ``start``."""

    slot: Slot
    start: int
    count: int


@dataclass(eq=False)
class _Run:
    """Neighbouring slots whose rows bring one token each, or one slot whose row brings several.

    Attributes:
        tokens: where in the batch the rows' tokens are.
        lengths: tokens that each row has, the new ones included.
    """

    block: Block
    first: int
    tokens: slice | torch.Tensor
    lengths: list[int]
    count: int
    views: dict[int | None, View] = field(default_factory=dict)


@dataclass(eq=False)
class _Writes:
    """Single tokens that go into one block.

    Attributes:
        slots, positions: [n], where.
        rows: by number of heads, [n · heads], the same as rows of the block's tensors seen as
            [slots · heads · capacity, width]: writing by one index is far cheaper than by two with a slice between.
    """

    block: Block
    tokens: slice | torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor
    rows: dict[int, torch.Tensor] = field(default_factory=dict)

    def put(self, into: torch.Tensor, new: torch.Tensor) -> None:
        """Write ``new`` [n, heads, width] into a layer's keys or values [slots, heads, capacity, width]."""
        heads, width = new.shape[1:]
        if heads not in self.rows:
            of_heads = self.slots[:, None] * heads + torch.arange(heads, device=into.device)  # [n, heads]
            self.rows[heads] = (of_heads * self.block.capacity + self.positions[:, None]).flatten()  # [n · heads]
        into.view(-1, width).index_copy_(0, self.rows[heads], new.reshape(-1, width))


class PackedBatch:
    """One forward pass. ``pieces`` stand one after another in the batch, those of a single token first."""

    def __init__(self, pieces: Sequence[Piece], device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._writes: list[_Writes] = []
        self._runs: list[_Run] = []
        self.layers: set[int] = set()  # that have attended
        singles = sum(piece.count == 1 for piece in pieces)
        self._pack_singles(pieces[:singles])
        begin = singles
        for piece in pieces[singles:]:
            tokens = slice(begin, begin + piece.count)
            self._runs.append(
                _Run(piece.slot.block, piece.slot.index, tokens, [piece.start + piece.count], piece.count)
            )
            begin += piece.count

    def _pack_singles(self, pieces: Sequence[Piece]) -> None:
        by_block: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_block.setdefault(id(piece.slot.block), []).append(i)
        for members in by_block.values():
            members.sort(key=lambda i: pieces[i].slot.index)
            block = pieces[members[0]].slot.block
            slots = [pieces[i].slot.index for i in members]
            positions = [pieces[i].start for i in members]
            self._writes.append(_Writes(block, self._index(members), self._tensor(slots), self._tensor(positions)))
            begin = 0
            for end in range(1, len(members) + 1):
                lengths = [p + 1 for p in positions[begin : end + 1]]
                if (
                    end == len(members)
                    or slots[end] != slots[end - 1] + 1
                    or max(lengths) * len(lengths) > _WASTE * sum(lengths)
                ):
                    own = members[begin:end]
                    self._runs.append(
                        _Run(block, slots[begin], self._index(own), [p + 1 for p in positions[begin:end]], 1)
                    )
                    begin = end

    def attend(
        self,
        layer: int,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        scale: float | None,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """Write the new keys and values, and attend.

        Args:
            q: [N, H, D] of the batch's N tokens.
            k, v: [N, heads, D] and [N, heads, Dv].
            window: tokens that a token may look back on, itself included; None for all.

        Returns:
            [N, H, Dv].
        """
        self.layers.add(layer)
        for w in self._writes:
            w.put(w.block.keys[layer], k[w.tokens])
            w.put(w.block.values[layer], v[w.tokens])
        n, heads = len(q), k.shape[1]
        out = q.new_empty(n, q.shape[1], v.shape[-1])  # [N, H, Dv]
        for run in self._runs:
            keys, values = run.block.keys[layer], run.block.values[layer]
            rows = slice(run.first, run.first + len(run.lengths))
            if run.count > 1:
                start = run.lengths[0] - run.count
                keys[run.first, :, start : run.lengths[0]] = k[run.tokens].transpose(0, 1)
                values[run.first, :, start : run.lengths[0]] = v[run.tokens].transpose(0, 1)
            low, high, mask = self._view(run, window)
            keys, values = keys[rows, :, low:high], values[rows, :, low:high]  # [rows, heads, L, D]
            if run.count == 1:  # the query heads of one key-value head read it together
                queries = q[run.tokens].view(len(run.lengths), heads, -1, q.shape[-1])  # [rows, heads, G, D]
                mixed = _attend(queries, keys, values, mask, scale, softcap, causal=False)  # [rows, heads, G, Dv]
                out[run.tokens] = mixed.reshape(len(run.lengths), q.shape[1], -1)
            else:
                queries = q[run.tokens].transpose(0, 1)[None]  # [1, H, T, D]
                mixed = _attend(queries, keys, values, mask, scale, softcap, causal=mask is None)  # [1, H, T, Dv]
                out[run.tokens] = mixed[0].transpose(0, 1)
        return out

    def _view(self, run: _Run, window: int | None) -> View:
        """First and last position to read, and what of it is masked; a plain causal piece needs no mask."""
        if window not in run.views:
            run.views[window] = self._single_view(run, window) if run.count == 1 else self._piece_view(run, window)
        return run.views[window]

    def _single_view(self, run: _Run, window: int | None) -> View:
        high = max(run.lengths)
        low = max(0, min(run.lengths) - window) if window else 0
        if all(n == high for n in run.lengths):
            return low, high, None
        ends = self._tensor(run.lengths)[:, None]  # [rows, 1]
        seen = torch.arange(low, high, device=self._device)  # [L]
        allowed = seen < ends if window is None else (seen < ends) & (seen >= ends - window)  # [rows, L]
        return low, high, self._additive(allowed)[:, None, None]  # [rows, 1, 1, L]

    def _piece_view(self, run: _Run, window: int | None) -> View:
        high = run.lengths[0]
        start = high - run.count
        if start == 0 and (window is None or window >= high):
            return 0, high, None
        low = max(0, start + 1 - window) if window else 0
        at = torch.arange(start, high, device=self._device)[:, None]  # [T, 1]
        seen = torch.arange(low, high, device=self._device)  # [L]
        allowed = seen <= at if window is None else (seen <= at) & (seen > at - window)  # [T, L]
        return low, high, self._additive(allowed)

    def _additive(self, allowed: torch.Tensor) -> torch.Tensor:
        return torch.zeros(allowed.shape, dtype=self._dtype, device=self._device).masked_fill_(~allowed, -torch.inf)

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self._device)

    def _index(self, tokens: list[int]) -> slice | torch.Tensor:
        if tokens[-1] - tokens[0] + 1 == len(tokens) and tokens == sorted(tokens):
            return slice(tokens[0], tokens[-1] + 1)
        return self._tensor(tokens)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed: PackedBatch | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What a model's attention layer calls, in the shape transformers asks for: query [1, H, N, D], and so on.

    Raises:
        NotImplementedError: the model's attention is of a kind that is not computed here.
    """
    if packed is None or attention_mask is not None or query.shape[0] != 1:
        raise NotImplementedError("the model does not hand its batch through to attention")
    unknown = [name for name in _UNKNOWN if options.get(name) is not None]
    if unknown or options.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise NotImplementedError(f"attention with {', '.join(unknown) or 'two directions'}")
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # [N, heads, D]
    mixed = packed.attend(module.layer_idx, q, k, v, scale=scaling, window=sliding_window, softcap=softcap)
    return mixed[None], None  # [1, N, H, Dv]


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    softcap: float | None,
    *,
    causal: bool,
) -> torch.Tensor:
    """[B, H, T, Dv] from q [B, H, T, D] and k, v [B, heads, L, D]; ``mask`` is added to the scores."""
    if softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)  # [B, H, L, D]
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)  # [B, H, T, L]
    scores = torch.tanh(scores / softcap) * softcap
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], device=q.device).triu(1).bool(), -torch.inf)
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype) @ v


AttentionInterface.register(NAME, packed_attention)
