"""One forward pass for rows at different places: pieces of prompts and single next tokens, each on its own adapter.

Owns the model, its key-value cache and the adapters' stacks; used by one thread. Proves at the start that it computes
what the model itself computes, so that an architecture it does not know is refused and not served wrongly. Knows
tensors and adapters; knows no requests, text or threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from adapters.causal.attention import NAME, PackedBatch, Piece
from adapters.causal.cache import KVCache, LayerShape
from adapters.causal.model import CausalModel
from adapters.errors import InvalidAdapter, ModelUnavailable
from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora, LoraStacks, VirtualTokens
from adapters.merged import MergedWeights
from adapters.row_changes import RowChanges, changed_segments
from adapters.row_lora import BatchComposition, Plan, Segment, put_row_lora, segments_of
from adapters.whole_models import WholeModels, by_model

PROBE_TOKENS = 64  # a probe may have at most
_PROOF_TOKENS = 24
CLOSE = {torch.float32: 2e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}  # of the largest score


@dataclass(eq=False)
class Lane:
    """One row in the model.

    Attributes:
        slot: what the runner's cache gave it.
        pending: tokens that the model has not seen yet: what is left of the prompt, or the token chosen last.
        cached: tokens that stand in the slot.
    """

    slot: Any
    adapter: LoadedLora | None
    pending: Sequence[int]
    cached: int = 0

    @property
    def virtual(self) -> int:
        """Learned tokens that stand in the slot before the prompt."""
        return self.adapter.virtual.count if self.adapter is not None and self.adapter.virtual is not None else 0


class ModelRunner:
    """Runs a causal model over lanes.

    Args:
        kv_budget_bytes: memory for keys and values of all rows.

    Raises:
        ModelUnavailable: the model is of a kind that cannot be batched here.
    """

    def __init__(self, base: CausalModel, kv_budget_bytes: int) -> None:
        self._base = base
        self._composition = BatchComposition()
        self._stacks = LoraStacks(base.device)
        self._probe_ids = torch.arange(_PROOF_TOKENS, device=base.device)[None] % base.vocabulary  # [1, T]
        expected, shapes = self._plain(base.model)
        self._shapes = shapes
        self.cache = KVCache(shapes, base.dtype, base.device, kv_budget_bytes)
        # Probes have room of their own: they must not fail because rows take all there is.
        room = self.cache.bytes_per_token * PROBE_TOKENS
        self._probe_cache = KVCache(shapes, base.dtype, base.device, room)
        base.model.set_attn_implementation(NAME)
        self._models = WholeModels(base.model)
        put_row_lora(base.model, self._composition, base.model.get_output_embeddings())
        self.merged = MergedWeights(base.model)
        self._changes = RowChanges(base.model, self._composition, base.model.get_output_embeddings())
        self._prove(expected)

    def step(self, work: Sequence[tuple[Lane, int]]) -> dict[Lane, torch.Tensor]:
        """Let each lane see its next ``count`` tokens, at least one.

        Returns:
            Scores [V], float32, of lanes that have seen all they had; in these the next token is due. Nothing has
            changed when it raises, so that the step may be taken again with fewer lanes.
        """
        if self.merged.key is not None and any(self._others(work)):
            self.merged.restore()
        scores: dict[Lane, torch.Tensor] = {}
        for whole, together in by_model(work, lambda item: item[0].adapter):
            with self._models.in_place(whole):
                scores |= self._scores(together, of_base=whole is None)
        for lane, count in work:
            lane.cached += count
            lane.pending = lane.pending[count:]
        return scores

    def _scores(self, work: Sequence[tuple[Lane, int]], *, of_base: bool) -> dict[Lane, torch.Tensor]:
        """One pass for rows on one model: the base with adapters, or a whole one."""
        bare = not of_base or self.merged.key is not None  # no products beside what stands in the layers
        work = self._ordered(work, bare)
        for lane, _ in work:
            if lane.cached < lane.virtual:
                self._put_virtual(lane)
        pieces = [Piece(lane.slot, lane.cached, count) for lane, count in work]
        tokens = [token for lane, count in work for token in lane.pending[:count]]
        positions = [p for piece in pieces for p in range(piece.start, piece.start + piece.count)]
        ends, end = [], 0
        for piece in pieces:
            end += piece.count
            ends.append(end - 1)
        due = [i for i, (lane, count) in enumerate(work) if count == len(lane.pending)]
        self._plan(work, due, bare)
        try:
            with torch.inference_mode():
                scores = self._forward(
                    tokens,
                    positions,
                    [ends[i] for i in due] or ends[-1:],
                    PackedBatch(pieces, self._base.device, self._base.dtype),
                )  # [due, V]
        finally:
            self._composition.clear()
        return {work[i][0]: scores[j] for j, i in enumerate(due)}

    def effect(self, adapter: LoadedLora, token_ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [V] after a prompt of at most `PROBE_TOKENS`, on the base and on an adapter."""
        base, adapted = (self._alone(token_ids, a, len(token_ids)) for a in (None, adapter))
        return base, adapted

    def linear(self, path: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight [d_out, d_in] and bias [d_out] of a layer of the base, also while another stands in its place."""
        return self._models.linear(path)

    @property
    def whole_bytes(self) -> int:
        """Memory of a whole model beside the base."""
        return self._models.bytes

    def check_whole(self, files: AdapterFiles) -> None:
        """Refuse a whole model of another architecture. Raises InvalidAdapter."""
        self._models.check(files)

    def check_virtual(self, virtual: torch.Tensor, kind: str) -> None:
        """Refuse learned tokens that do not fit. Raises InvalidAdapter, reason ``shape``."""
        shapes = self._shapes
        width = self._base.model.get_input_embeddings().embedding_dim
        if kind == "prefix_tuning":
            width = sum(s.heads * (s.key_width + s.value_width) for s in shapes)
            if len(set(shapes)) > 1 or shapes[0].key_width != shapes[0].value_width:
                raise InvalidAdapter("shape", "The layers of this base differ, which prefix tuning cannot express.")
        if virtual.shape[1] != width:
            raise InvalidAdapter(
                "shape", f"The base has {width} numbers for each learned token, the adapter {virtual.shape[1]}."
            )

    def prefix(self, virtual: torch.Tensor) -> VirtualTokens:
        """Learned keys and values [n, layers · 2 · heads · width], as peft saves them, by layer."""
        layers = virtual.view(len(virtual), 2 * len(self._shapes), self._shapes[0].heads, -1).permute(1, 2, 0, 3)
        own = layers.to(self._base.device, self._base.dtype).contiguous()  # [2·layers, heads, n, width]
        return VirtualTokens(len(virtual), None, list(own[0::2]), list(own[1::2]))

    def probe(self) -> None:
        """Compute something on the base model; raises what the model raises."""
        self._alone(self._probe_ids[0].tolist(), None, _PROOF_TOKENS)

    def _put_virtual(self, lane: Lane) -> None:
        """Let a row begin behind its adapter's learned tokens."""
        virtual = lane.adapter.virtual if lane.adapter is not None else None
        if virtual is None:
            return
        if virtual.embeddings is not None and not virtual.keys:
            self._read_virtual(virtual, virtual.embeddings)
        block = lane.slot.block
        for layer, (keys, values) in enumerate(zip(virtual.keys, virtual.values, strict=True)):
            block.keys[layer][lane.slot.index, :, : virtual.count] = keys
            block.values[layer][lane.slot.index, :, : virtual.count] = values
        lane.cached = virtual.count

    def _read_virtual(self, virtual: VirtualTokens, embeddings: torch.Tensor) -> None:
        """Nothing stands before learned tokens, so their keys and values are the same for every row: once is enough."""
        cache = KVCache(self._shapes, self._base.dtype, self._base.device, self.cache.bytes_per_token * virtual.count)
        slot = cache.allocate(virtual.count)
        if slot is None:
            raise ValueError("no room for learned tokens")
        piece = Piece(slot, 0, virtual.count)
        self._composition.clear()
        with torch.inference_mode():
            self._forward(
                embeddings.to(self._base.dtype)[None],  # [1, n, d]
                range(virtual.count),
                [virtual.count - 1],
                PackedBatch([piece], self._base.device, self._base.dtype),
            )
        virtual.values = [values[slot.index, :, : virtual.count] for values in slot.block.values]
        virtual.keys = [keys[slot.index, :, : virtual.count] for keys in slot.block.keys]

    def _ordered(self, work: Sequence[tuple[Lane, int]], bare: bool) -> list[tuple[Lane, int]]:
        """Single tokens first, in the order that suits their adapters; then longer pieces."""
        singles = [item for item in work if item[1] == 1]
        singles.sort(key=lambda item: (id(item[0].slot.block), item[0].slot.index))
        self._arranged = self._stacks.arrange([None if bare else lane.adapter for lane, _ in singles])
        return [singles[i] for i in self._arranged.order] + [item for item in work if item[1] > 1]

    def _others(self, work: Sequence[tuple[Lane, int]]) -> Iterator[bool]:
        """Of each row, whether it is on anything but the merged adapter."""
        return (lane.adapter is None or lane.adapter.key != self.merged.key for lane, _ in work)

    def _plan(self, work: Sequence[tuple[Lane, int]], due: Sequence[int], bare: bool) -> None:
        if bare:
            self._composition.body = Plan(sum(count for _, count in work))
            self._composition.head = Plan(max(1, len(due)))
            return
        singles = len(self._arranged.order)
        runs = [Segment(*run) for run in self._arranged.runs]
        stacked = self._arranged.stacked
        self._composition.body = Plan(
            sum(count for _, count in work), [*runs, *_segments(work[singles:], singles)], stacked
        )
        if due[:singles] == list(range(singles)):
            last = [(work[i][0], 1) for i in due[singles:]]
            self._composition.head = Plan(len(due), [*runs, *_segments(last, singles)], stacked)
        else:  # a single token in the middle of a prompt: rare, so without stacks
            self._composition.head = Plan(max(1, len(due)), _segments([(work[i][0], 1) for i in due], 0))
        if self._changes.make_room(lane.adapter for lane, _ in work):
            body, head = self._composition.body, self._composition.head
            body = replace(body, changed=changed_segments(_segments(work, 0)))
            head = replace(head, changed=changed_segments(_segments([(work[i][0], 1) for i in due], 0)))
            self._composition.body, self._composition.head = body, head

    def _forward(
        self,
        tokens: Sequence[int] | torch.Tensor,
        positions: Sequence[int],
        wanted: Sequence[int],
        packed: PackedBatch,
    ) -> torch.Tensor:
        """Scores [wanted, V]; ``tokens`` are N ids, or embeddings [1, N, d]."""
        device = self._base.device
        given = (
            {"inputs_embeds": tokens}
            if isinstance(tokens, torch.Tensor)
            else {"input_ids": torch.tensor([tokens], device=device)}  # [1, N]
        )
        out = self._base.model(
            **given,
            position_ids=torch.tensor([list(positions)], device=device),  # [1, N]
            logits_to_keep=torch.tensor(wanted, device=device),
            use_cache=False,
            packed=packed,
        )
        if len(packed.layers) != len(self._shapes):
            raise NotImplementedError("its attention cannot be replaced")
        scores: torch.Tensor = out.logits[0].float()  # [wanted, V]
        return scores

    def _alone(self, token_ids: Sequence[int], adapter: LoadedLora | None, chunk: int) -> torch.Tensor:
        cache, length = self._probe_cache, len(token_ids)
        if adapter is not None and adapter.virtual is not None:
            length += adapter.virtual.count
            cache = KVCache(self._shapes, self._base.dtype, self._base.device, self.cache.bytes_per_token * length)
        slot = cache.allocate(length)
        if slot is None:
            raise ValueError(f"a probe has {PROBE_TOKENS} tokens at most")
        lane = Lane(slot, adapter, list(token_ids))
        try:
            scores: dict[Lane, torch.Tensor] = {}
            while lane.pending:
                scores = self.step([(lane, min(chunk, len(lane.pending)))])
            return scores[lane]
        finally:
            cache.release(slot, length)

    def _plain(self, model: Any) -> tuple[torch.Tensor, list[LayerShape]]:
        """The model's own scores [V] for the proof, and the shapes of what it caches."""
        try:
            with torch.inference_mode():
                out = model(input_ids=self._probe_ids, use_cache=True)
            shapes = [
                LayerShape(x.keys.shape[1], x.keys.shape[3], x.values.shape[3]) for x in out.past_key_values.layers
            ]
        except Exception as error:
            raise unlike_refusal(self._base, f"{type(error).__name__}: {error}") from error
        return out.logits[0, -1].float(), shapes  # [V]

    def _prove(self, expected: torch.Tensor) -> None:
        if self.cache.most_tokens < _PROOF_TOKENS:
            raise ModelUnavailable(
                f"The memory for keys and values holds {self.cache.most_tokens} tokens of {self._base.name}; give more."
            )
        try:
            found = self._alone(self._probe_ids[0].tolist(), None, _PROOF_TOKENS - 9)
        except Exception as error:
            raise unlike_refusal(self._base, f"{type(error).__name__}: {error}") from error
        if not bool(torch.isfinite(expected).all()):
            raise ModelUnavailable(f"The scores of {self._base.name} are not finite; try dtype float32.")
        difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        if not difference <= CLOSE.get(self._base.dtype, 6e-2):
            raise unlike_refusal(self._base, f"its scores differ by {difference:.1%} from the model's own")


def unlike_refusal(base: CausalModel, why: str) -> ModelUnavailable:
    """A model that does not compute here what it computes by itself."""
    kind = type(base.model).__name__
    return ModelUnavailable(f"{base.name} ({kind}) cannot be served with rows batched at every step: {why}.")


def _segments(work: Sequence[tuple[Lane, int]], begin: int) -> list[Segment]:
    found = segments_of([lane.adapter for lane, _ in work], [count for _, count in work])
    return [Segment(s.adapter, s.begin + begin, s.end + begin) for s in found]
