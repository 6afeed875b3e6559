"""One forward pass for rows of an encoder-decoder model such as T5, behind the calls of `ModelRunner`.

A row's prompt is encoded whole, by itself, in the step in which its last piece is due; what the decoder attends to of
it is kept. From then on the row takes one token a step, in one batch with all others: rows stand right-aligned, so that
the distances between tokens, which is all that T5 knows of positions, are right for each. The batch is put together
anew only when rows join or leave. Proves at the start that rows at different places get what the model itself computes.
Knows tensors and adapters; knows no requests, text or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import DynamicCache, EncoderDecoderCache

from adapters.causal.model import CausalModel
from adapters.causal.runner import CLOSE, Lane, unlike_refusal
from adapters.errors import InvalidAdapter, ModelUnavailable
from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora, LoraStacks, VirtualTokens
from adapters.row_changes import RowChanges, changed_segments, linear_weight
from adapters.row_lora import BatchComposition, Plan, Segment, put_row_lora, segments_of

_PROOF_TOKENS = (24, 9)

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(eq=False)
class Place:
    """What one row holds.

    Attributes:
        tokens: how many it may come to hold, prompt and answer together.
        prompt: what of its prompt was seen.
        begun: whether its answer has begun.
        cross: by layer, keys and values of the encoded prompt, [heads, S, D].
        own: by layer, keys and values of its answer, [heads, L, D], while it stands in no batch.
    """

    tokens: int
    prompt: list[int] = field(default_factory=list)
    begun: bool = False
    cross: list[Pair] = field(default_factory=list)
    own: list[Pair] = field(default_factory=list)


class TokenBudget:
    """Counts the tokens whose keys and values rows hold.

    Args:
        budget_bytes: what all rows may take together.
    """

    def __init__(self, bytes_per_token: int, budget_bytes: int) -> None:
        self.bytes_per_token = bytes_per_token
        self.most_tokens = budget_bytes // bytes_per_token
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that rows may come to hold."""
        return self._held * self.bytes_per_token

    def allocate(self, tokens: int) -> Place | None:
        """A place for ``tokens`` tokens; None when there is no room now."""
        if self._held + tokens > self.most_tokens:
            return None
        self._held += tokens
        return Place(tokens)

    def release(self, place: Place, used: int) -> None:
        """Give a place back; its tensors go with it."""
        self._held -= place.tokens


@dataclass(eq=False)
class _Batch:
    """Rows that decode together, as long as they stay the same.

    Attributes:
        mask: [B, L], which columns of the answers are tokens.
        prompts: [B, S], which columns of the encoded prompts are.
    """

    lanes: list[Lane]
    cache: Any
    mask: torch.Tensor
    prompts: torch.Tensor


class EncoderDecoderRunner:
    """Runs an encoder-decoder model over lanes; see `ModelRunner` for the calls.

    Raises:
        ModelUnavailable: the model is of a kind that cannot be batched here.
    """

    def __init__(self, base: CausalModel, kv_budget_bytes: int) -> None:
        self._base = base
        self._model: Any = base.model
        self._start = self._model.config.decoder_start_token_id
        self._composition = BatchComposition()
        self._stacks = LoraStacks(base.device)
        self._batch: _Batch | None = None
        # What was encoded is read from the cache; the model only looks at how much of it there is.
        self._no_states = torch.zeros(1, 1, self._model.config.d_model, device=base.device, dtype=base.dtype)
        try:
            expected, bytes_per_token = self._plain()
        except Exception as error:
            raise unlike_refusal(base, f"{type(error).__name__}: {error}") from error
        self.cache = TokenBudget(bytes_per_token, kv_budget_bytes)
        head = self._model.get_output_embeddings()
        put_row_lora(self._model, self._composition, head)
        self._changes = RowChanges(self._model, self._composition, self._model.get_output_embeddings())
        self._prove(expected)

    def step(self, work: Sequence[tuple[Lane, int]]) -> dict[Lane, torch.Tensor]:
        """Let each lane see its next ``count`` tokens; a prompt's last piece lets it be encoded, whole, and the first
        token of its answer is due. Nothing has changed when it raises."""
        self._changes.make_room(lane.adapter for lane, _ in work)
        due = [lane for lane, count in work if count == len(lane.pending)]
        with torch.inference_mode():
            for lane, count in work:
                if not lane.slot.cross and count == len(lane.pending):
                    lane.slot.cross = self._encode(lane, [*lane.slot.prompt, *lane.pending])
            scores = self._decode(due) if due else {}
        for lane in due:
            lane.slot.begun = True
        for lane, count in work:
            if not lane.slot.cross:
                lane.slot.prompt += lane.pending[:count]
            lane.cached += count
            lane.pending = lane.pending[count:]
        return scores

    def effect(self, adapter: LoadedLora, token_ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [V] after a prompt, on the base and on an adapter."""
        base, adapted = (self._alone(token_ids, a) for a in (None, adapter))
        return base, adapted

    def probe(self) -> None:
        """Compute something on the base model; raises what the model raises."""
        self._alone(self._probe_ids(_PROOF_TOKENS[0]), None)

    def linear(self, path: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight [d_out, d_in] and bias [d_out] of a layer."""
        return linear_weight(self._model, path)

    @property
    def whole_bytes(self) -> int:
        """None is served."""
        return 0

    def check_whole(self, files: AdapterFiles) -> None:
        """Raises InvalidAdapter: all rows share one batch, from step to step."""
        raise InvalidAdapter("config", f"{files.kind} is not served on encoder-decoder models; train lora or dora.")

    def check_virtual(self, virtual: torch.Tensor, kind: str) -> None:
        """Raises InvalidAdapter: learned tokens would stand in the encoder and in the decoder."""
        raise InvalidAdapter(
            "config", f"{kind} is not served on encoder-decoder models ({len(virtual)} tokens); train lora or dora."
        )

    def prefix(self, virtual: torch.Tensor) -> VirtualTokens:
        """Never called: `check_virtual` refuses."""
        raise NotImplementedError

    def _encode(self, lane: Lane, token_ids: Sequence[int]) -> list[Pair]:
        """By decoder layer, keys and values of the encoded prompt, [heads, S, D]."""
        count = len(token_ids)
        own = [Segment(lane.adapter, 0, count)] if lane.adapter is not None else []
        self._composition.body = Plan(count, own, changed=changed_segments(own))
        try:
            ids = torch.tensor([list(token_ids)], device=self._base.device)  # [1, S]
            states = self._model.get_encoder()(input_ids=ids).last_hidden_state  # [1, S, d]
            cross = []
            for block in self._model.get_decoder().block:
                attention = block.layer[1].EncDecAttention
                width = attention.key_value_proj_dim
                keys = attention.k(states).view(count, -1, width).transpose(0, 1)  # [heads, S, D]
                values = attention.v(states).view(count, -1, width).transpose(0, 1)  # [heads, S, D]
                cross.append((keys, values))
        finally:
            self._composition.clear()
        return cross

    def _decode(self, due: Sequence[Lane]) -> dict[Lane, torch.Tensor]:
        """Scores [V] of each lane after its next token."""
        arranged = self._stacks.arrange([lane.adapter for lane in due])
        lanes = [due[i] for i in arranged.order]
        batch = self._batch
        if batch is None or batch.lanes != lanes:
            self._part()
            batch = self._batch = self._together(lanes)
        tokens = [lane.pending[0] if lane.slot.begun else self._start for lane in lanes]
        count, before = len(lanes), _layers(batch.cache.self_attention_cache)
        changed = changed_segments(segments_of([lane.adapter for lane in lanes], [1] * count))
        runs = [Segment(*run) for run in arranged.runs]
        self._composition.body = self._composition.head = Plan(count, runs, arranged.stacked, changed)
        mask = F.pad(batch.mask, (0, 1), value=1)  # [B, L + 1]
        try:
            out = self._model(
                encoder_outputs=(self._no_states.expand(*batch.prompts.shape, -1),),
                attention_mask=batch.prompts,
                decoder_input_ids=torch.tensor(tokens, device=self._base.device)[:, None],  # [B, 1]
                decoder_attention_mask=mask,
                past_key_values=batch.cache,
                use_cache=True,
            )
        except BaseException:
            batch.cache = _cache(
                before, _layers(batch.cache.cross_attention_cache)
            )  # some layers had the token already
            raise
        finally:
            self._composition.clear()
        batch.mask = mask
        return dict(zip(lanes, out.logits[:, -1].float(), strict=True))  # [V] each

    def _part(self) -> None:
        """Give each row of the batch its own keys and values back."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        lengths = batch.mask.sum(1).tolist()
        layers = _layers(batch.cache.self_attention_cache)
        for i, (lane, n) in enumerate(zip(batch.lanes, lengths, strict=True)):
            lane.slot.own = [
                (keys[i, :, keys.shape[2] - n :], values[i, :, values.shape[2] - n :]) for keys, values in layers
            ]

    def _together(self, lanes: list[Lane]) -> _Batch:
        """One batch of rows: answers right-aligned, prompts left-aligned."""
        lengths = [lane.slot.own[0][0].shape[1] if lane.slot.own else 0 for lane in lanes]
        prompts = [lane.slot.cross[0][0].shape[1] for lane in lanes]
        longest, widest = max(lengths), max(prompts)
        layers = range(len(lanes[0].slot.cross))
        own = [
            tuple(torch.stack([_right(lane, layer, side, longest) for lane in lanes]) for side in (0, 1))
            for layer in (layers if longest else ())
        ]  # of each layer keys and values, [B, heads, L, D]
        cross = [
            tuple(
                torch.stack(
                    [
                        F.pad(lane.slot.cross[layer][side], (0, 0, 0, widest - n))
                        for lane, n in zip(lanes, prompts, strict=True)
                    ]
                )
                for side in (0, 1)
            )
            for layer in layers
        ]  # [B, heads, S, D]
        device = self._base.device
        columns = torch.arange(longest, device=device)  # [L]
        mask = columns >= longest - torch.tensor(lengths, device=device)[:, None]  # [B, L]
        seen = torch.arange(widest, device=device) < torch.tensor(prompts, device=device)[:, None]  # [B, S]
        return _Batch(lanes, _cache(own, cross), mask.long(), seen.long())

    def _alone(self, token_ids: Sequence[int], adapter: LoadedLora | None) -> torch.Tensor:
        lane = Lane(Place(len(token_ids)), adapter, list(token_ids))
        return self.step([(lane, len(token_ids))])[lane]

    def _probe_ids(self, count: int) -> list[int]:
        return [i % self._base.vocabulary for i in range(count)]

    def _plain(self) -> tuple[list[torch.Tensor], int]:
        """What the model itself says [V] in the proof; bytes of a token's keys and values."""
        found = []
        for count in _PROOF_TOKENS:
            ids = torch.tensor([self._probe_ids(count)], device=self._base.device)  # [1, S]
            answer = torch.tensor(
                [[self._start, 1, 2, 3][: 2 + (count == max(_PROOF_TOKENS))]], device=self._base.device
            )
            with torch.inference_mode():
                out = self._model(input_ids=ids, decoder_input_ids=answer, use_cache=True)
            found.append(out.logits[0, -1].float())  # [V]
        layers = _layers(out.past_key_values.self_attention_cache)
        return found, sum(t[0, :, 0].numel() * t.element_size() for pair in layers for t in pair)

    def _prove(self, expected: Sequence[torch.Tensor]) -> None:
        """Two rows whose answers are of different lengths, in one batch."""
        try:
            lanes = [Lane(Place(n), None, self._probe_ids(n)) for n in _PROOF_TOKENS]
            self.step([(lanes[0], 20)])
            self.step([(lanes[0], _PROOF_TOKENS[0] - 20)])
            lanes[0].pending = (1,)
            self.step([(lanes[0], 1), (lanes[1], _PROOF_TOKENS[1])])
            lanes[0].pending, lanes[1].pending = (2,), (1,)
            found = self.step([(lane, 1) for lane in lanes])
        except Exception as error:
            raise unlike_refusal(self._base, f"{type(error).__name__}: {error}") from error
        for lane, scores in zip(lanes, expected, strict=True):
            if not bool(torch.isfinite(scores).all()):
                raise ModelUnavailable(f"The scores of {self._base.name} are not finite; try dtype float32.")
            difference = float((found[lane] - scores).abs().max() / scores.abs().max().clamp_min(1e-6))
            if not difference <= CLOSE.get(self._base.dtype, 6e-2):
                raise unlike_refusal(self._base, f"its scores differ by {difference:.1%} from the model's own")


def _right(lane: Lane, layer: int, side: int, length: int) -> torch.Tensor:
    """[heads, L, D]: a row's keys (side 0) or values, with room on the left."""
    if not lane.slot.own:
        heads, _, width = lane.slot.cross[layer][side].shape
        none: torch.Tensor = lane.slot.cross[layer][side].new_zeros(heads, length, width)
        return none
    own: torch.Tensor = lane.slot.own[layer][side]
    return F.pad(own, (0, 0, length - own.shape[1], 0))


def _layers(cache: Any) -> list[Pair]:
    """Keys and values [B, heads, L, D] of each layer that has any."""
    return [(layer.keys, layer.values) for layer in cache.layers if layer.get_seq_length()]


def _cache(own: Sequence[Any], cross: Sequence[Any]) -> Any:
    caches = []
    for layers in (own, cross):
        cache = DynamicCache()
        for i, (keys, values) in enumerate(layers):
            cache.update(keys, values, i)
        caches.append(cache)
    return EncoderDecoderCache(*caches)
