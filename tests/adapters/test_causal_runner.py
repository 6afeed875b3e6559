"""The runner: rows at different places in one forward pass get what each gets alone, on every family it claims."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from adapters.causal.cache import KVCache, LayerShape
from adapters.causal.model import CausalModel
from adapters.causal.runner import Lane, ModelRunner
from adapters.errors import ModelUnavailable
from adapters.lora_stack import LoadedLora
from adapters.row_lora import linear_shapes, load_lora
from adapters.validation import check_fits, read_adapter

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**GROUPED),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=16),
    "mistral beyond its window": MistralConfig(**GROUPED, sliding_window=9),
    "gemma": GemmaConfig(**{**GROUPED, "num_key_value_heads": 1}, head_dim=16),
    "gemma2 with soft caps": Gemma2Config(**GROUPED, head_dim=8, sliding_window=9),
    "gemma3": Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=9),
    "phi": PhiConfig(**SIZES),
    "phi3": Phi3Config(**GROUPED),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    ),
}
BUDGET = 64 * 1024**2


def make_model(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval().requires_grad_(False)


def as_base(model: Any) -> CausalModel:
    return CausalModel(model, None, "tiny", "0" * 64, 128, frozenset({2}), 0, linear_shapes(model), VOCABULARY)


class Tuned:
    """A model, adapters for it by plain peft, and what plain peft computes: the slow path to compare with."""

    def __init__(self, model: Any, folder: Path, configs: list[dict[str, Any]]) -> None:
        self._peft: Any = None
        for i, config in enumerate(configs):
            wanted = LoraConfig(**{"lora_alpha": 16, "task_type": "CAUSAL_LM", **config})
            if self._peft is None:
                self._peft = get_peft_model(copy.deepcopy(model), wanted, adapter_name="tuned-0")
            else:
                self._peft.add_adapter(f"tuned-{i}", wanted)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in self._peft.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
        self._peft.eval().save_pretrained(folder, save_embedding_layers=False)
        self.adapters: list[LoadedLora] = []
        for i in range(len(configs)):
            files = read_adapter(folder / f"tuned-{i}")
            check_fits(files, linear_shapes(model), {})
            self.adapters.append(load_lora(files, str(i), torch.float32))

    def scores(self, token_ids: list[int], adapter: int | None) -> torch.Tensor:
        """The whole sequence anew, without a cache; [V] after its last token."""
        with torch.inference_mode():
            if adapter is None:
                with self._peft.disable_adapter():
                    return self._run(token_ids)
            self._peft.set_adapter(f"tuned-{adapter}")
            return self._run(token_ids)

    def _run(self, token_ids: list[int]) -> torch.Tensor:
        return self._peft(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0, -1].float()


class Row:
    """A row driven through the runner by hand."""

    def __init__(self, runner: ModelRunner, prompt: list[int], adapter: LoadedLora | None) -> None:
        slot = runner.cache.allocate(len(prompt) + 16)
        assert slot is not None
        self.lane = Lane(slot, adapter, prompt)
        self.tokens = list(prompt)

    def take(self, scores: torch.Tensor) -> None:
        self.tokens.append(int(scores.argmax()))
        self.lane.pending = self.tokens[-1:]


def prompt_of(length: int, seed: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_computes_what_each_row_computes_alone(family: str, tmp_path: Path) -> None:
    model = make_model(FAMILIES[family])
    tuned = Tuned(model, tmp_path, [{"r": 4, "target_modules": "all-linear"}, {"r": 3, "target_modules": "all-linear"}])
    runner = ModelRunner(as_base(model), BUDGET)
    chosen = [None, 0, 1, 0, None]
    rows = [
        Row(runner, prompt_of(length, i), None if a is None else tuned.adapters[a])
        for i, (length, a) in enumerate(zip((5, 13, 21, 12, 30), chosen, strict=True))
    ]
    for step in range(10):
        work = [(r.lane, min(7, len(r.lane.pending))) for r in rows[: step + 1]]  # they join one by one, in pieces of 7
        scores = runner.step(work)
        for row, adapter in zip(rows, chosen, strict=True):
            if row.lane in scores:
                assert_close(scores[row.lane], tuned.scores(row.tokens, adapter))
                row.take(scores[row.lane])
    assert all(len(row.tokens) - row.lane.cached == 1 for row in rows)


def test_adapters_of_any_rank_scaling_and_target_share_a_step(tmp_path: Path) -> None:
    model = make_model(FAMILIES["llama"])
    configs = [
        {"r": 2, "target_modules": ["q_proj"]},
        {"r": 24, "target_modules": ["q_proj", "lm_head"], "use_rslora": True},
        {"r": 8, "target_modules": ["down_proj", "v_proj"]},
        {"r": 5, "target_modules": ["q_proj"]},
    ]
    tuned = Tuned(model, tmp_path, configs)
    runner = ModelRunner(as_base(model), BUDGET)
    chosen = [*(1,) * 9, 0, 2, 3, 0, None, 3, 2]  # one adapter with many rows, others with one or two
    rows = [
        Row(runner, prompt_of(3 + i % 4, i), None if a is None else tuned.adapters[a]) for i, a in enumerate(chosen)
    ]
    for step in range(4):
        scores = runner.step([(r.lane, len(r.lane.pending)) for r in rows])
        for row, adapter in zip(rows, chosen, strict=True):
            assert_close(scores[row.lane], tuned.scores(row.tokens, adapter))
            row.take(scores[row.lane])
        if step == 1:  # the batch changes: some leave, so that others move up in the stacks
            for row in (rows.pop(9), rows.pop(0)):
                runner.cache.release(row.lane.slot, row.lane.cached)
            chosen = [*(1,) * 8, 2, 3, 0, None, 3, 2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, ModelRunner]:
    model = make_model(FAMILIES["llama"])
    tuned = Tuned(
        model,
        tmp_path_factory.mktemp("lora"),
        [{"r": 4, "target_modules": "all-linear"}, {"r": 9, "target_modules": ["q_proj"]}],
    )
    return tuned, ModelRunner(as_base(model), BUDGET)


@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_joining_and_leaving_never_disturbs_the_others(shared: tuple[Tuned, ModelRunner], data: st.DataObject) -> None:
    tuned, runner = shared
    running: list[tuple[Row, int | None, int]] = []
    for step in range(8):
        for _ in range(data.draw(st.integers(0, 2), label="join")):
            adapter = data.draw(st.sampled_from([None, 0, 1]))
            prompt = prompt_of(data.draw(st.integers(1, 20)), len(running) + 10 * step)
            running.append(
                (Row(runner, prompt, None if adapter is None else tuned.adapters[adapter]), adapter, len(prompt))
            )
        if running and data.draw(st.booleans(), label="leave"):
            row, _, _ = running.pop(data.draw(st.integers(0, len(running) - 1)))
            runner.cache.release(row.lane.slot, row.lane.cached)
        if running:
            work = [(r.lane, data.draw(st.integers(1, len(r.lane.pending)))) for r, _, _ in running]
            scores = runner.step(work)
            for row, _, _ in running:
                if row.lane in scores:
                    row.take(scores[row.lane])
    for row, adapter, given_tokens in running:
        runner.cache.release(row.lane.slot, row.lane.cached)
        for end in range(given_tokens, len(row.tokens)):
            assert row.tokens[end] == int(tuned.scores(row.tokens[:end], adapter).argmax())


def test_a_failed_step_changes_nothing_and_may_be_taken_again(shared: tuple[Tuned, ModelRunner]) -> None:
    tuned, runner = shared
    good, bad = Row(runner, prompt_of(6, 1), None), Row(runner, [VOCABULARY + 5], None)
    with pytest.raises(IndexError):
        runner.step([(good.lane, 6), (bad.lane, 1)])
    assert_close(runner.step([(good.lane, 6)])[good.lane], tuned.scores(good.tokens, None))
    for row in (good, bad):
        runner.cache.release(row.lane.slot, 16)


def test_a_model_whose_positions_are_not_given_as_numbers_is_refused() -> None:
    bloom = make_model(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=4))
    with pytest.raises(ModelUnavailable, match="BloomForCausalLM"):
        ModelRunner(as_base(bloom), BUDGET)


class TestKVCache:
    """Bytes, slots and what is left in them."""

    def _cache(self, tokens: int) -> KVCache:
        shapes = [LayerShape(2, 4, 4)] * 3
        return KVCache(shapes, torch.float32, torch.device("cpu"), tokens * 3 * 2 * 8 * 4)

    def test_it_counts_every_byte_of_keys_and_values(self) -> None:
        cache = self._cache(1024)
        assert cache.bytes_per_token == 3 * 2 * (4 + 4) * 4
        assert cache.most_tokens == 1024
        slot = cache.allocate(60)
        assert slot is not None
        tensors = [*slot.block.keys, *slot.block.values]
        assert cache.held_bytes == sum(t.numel() * t.element_size() for t in tensors)

    def test_the_budget_holds_and_what_is_given_back_is_used_again(self) -> None:
        cache = self._cache(1024)
        slots = []
        while (slot := cache.allocate(200)) is not None:
            slots.append(slot)
        assert len(slots) == 4
        assert cache.held_bytes <= 1024 * cache.bytes_per_token
        assert cache.allocate(1024) is None
        for slot in slots:
            cache.release(slot, 200)
        assert cache.allocate(1024) is not None
        assert cache.allocate(1) is None
        assert self._cache(1024).allocate(1025) is None

    def test_nothing_of_a_row_is_left_for_the_next(self) -> None:
        cache = self._cache(64)
        slot = cache.allocate(64)
        assert slot is not None
        for tensor in (*slot.block.keys, *slot.block.values):
            tensor[slot.index, :, :50] = float("nan")
        cache.release(slot, 50)
        again = cache.allocate(64)
        assert again == slot
        assert all(not t.any() for t in (*again.block.keys, *again.block.values))
