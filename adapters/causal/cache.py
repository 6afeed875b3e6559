"""Where the keys and values of rows under way stand, and how many bytes they may take together.

A row gets a slot for its prompt and its longest answer when it is admitted, so it never runs out of room on the way.
Slots of one capacity stand side by side in blocks, so that attention reads many rows at once, without padding them to
the longest row of the batch. Knows tensors and bytes; knows no rows, no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_BLOCK_TOKENS = 4096  # a block has as many slots as hold this many tokens, at least one,
_BLOCK_SHARE = 8  # and takes no more than this part of the budget


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Of one attention layer: key-value heads, and how wide a key and a value are."""

    heads: int
    key_width: int
    value_width: int


class Block:
    """Slots of one capacity.

    Attributes:
        keys: by layer, [slots, heads, capacity, key width].
        values: by layer, [slots, heads, capacity, value width].
        free: slots that no row has.
    """

    def __init__(
        self, layers: Sequence[LayerShape], slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.capacity, self.slots = capacity, slots
        self.keys = [torch.zeros(slots, s.heads, capacity, s.key_width, dtype=dtype, device=device) for s in layers]
        self.values = [torch.zeros(slots, s.heads, capacity, s.value_width, dtype=dtype, device=device) for s in layers]
        self.free = set(range(slots))


@dataclass(frozen=True, slots=True)
class Slot:
    """A row's place in a block."""

    block: Block
    index: int


class KVCache:
    """The blocks of one model, within a budget.

    Args:
        budget_bytes: what all blocks may take together.
    """

    def __init__(
        self, layers: Sequence[LayerShape], dtype: torch.dtype, device: torch.device, budget_bytes: int
    ) -> None:
        self._layers, self._dtype, self._device, self._budget = layers, dtype, device, budget_bytes
        self.bytes_per_token = sum(s.heads * (s.key_width + s.value_width) for s in layers) * dtype.itemsize
        self._blocks: list[Block] = []

    @property
    def held_bytes(self) -> int:
        """Bytes of all blocks, in use or kept for the next row."""
        return sum(block.slots * block.capacity for block in self._blocks) * self.bytes_per_token

    @property
    def most_tokens(self) -> int:
        """Tokens that a row may have at most, prompt and answer together."""
        return self._budget // self.bytes_per_token

    def allocate(self, tokens: int) -> Slot | None:
        """A slot for ``tokens`` tokens; None when there is no room now. There never is for more than `most_tokens`."""
        capacity = min(_capacity(tokens), self.most_tokens)
        if capacity < tokens:
            return None
        block = next((b for b in self._blocks if b.capacity == capacity and b.free), None) or self._new(capacity)
        if block is None:
            return None
        index = min(block.free)
        block.free.remove(index)
        return Slot(block, index)

    def release(self, slot: Slot, used: int) -> None:
        """Give a slot back and wipe its first ``used`` tokens: what a row leaves must not reach the next one, not even
        as a NaN behind a mask."""
        for tensor in (*slot.block.keys, *slot.block.values):
            tensor[slot.index, :, :used] = 0
        slot.block.free.add(slot.index)

    def _new(self, capacity: int) -> Block | None:
        one = capacity * self.bytes_per_token
        if self.held_bytes + one > self._budget:
            self._blocks = [b for b in self._blocks if len(b.free) < b.slots]  # kept empty until others need the room
        wanted = max(1, min(_BLOCK_TOKENS // capacity, self._budget // _BLOCK_SHARE // one))
        slots = min(wanted, (self._budget - self.held_bytes) // one)
        if slots < 1:
            return None
        block = Block(self._layers, slots, capacity, self._dtype, self._device)
        self._blocks.append(block)
        return block


def _capacity(tokens: int) -> int:
    """The next of 64, 96, 128, 192, 256, 384 …: few capacities, and at most a third of a slot unused."""
    power = max(64, 1 << (tokens - 1).bit_length())
    return power * 3 // 4 if power > 64 and tokens <= power * 3 // 4 else power
