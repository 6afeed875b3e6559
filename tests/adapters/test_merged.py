"""Merged mode: the same answers, and the base's own weights back bit for bit."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters.causal import CausalEngine
from adapters.causal.runner import ModelRunner
from adapters.engine import AdapterRef
from adapters.merged import MergedWeights
from tests.adapters.engine_contract import Heard, ask, held, same
from tests.adapters.test_causal import ROWS
from tests.adapters.test_causal_runner import BUDGET, FAMILIES, Row, Tuned, as_base, assert_close, make_model, prompt_of
from tests.adapters.tiny_llama import make_lora, make_tiny_llama


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_is_merged_computes_the_adapter_and_is_taken_out_bit_for_bit(family: str, tmp_path: Path) -> None:
    model = make_model(FAMILIES[family])
    before = copy.deepcopy(model.state_dict())
    tuned = Tuned(model, tmp_path, [{"r": 4, "target_modules": "all-linear"}, {"r": 3, "target_modules": "all-linear"}])
    runner = ModelRunner(as_base(model), BUDGET)
    row = Row(runner, prompt_of(9, 1), tuned.adapters[0])
    for step in range(4):
        if step == 2:
            runner.merged.merge_what_all_are_on([tuned.adapters[0]] * 3)
            assert runner.merged.key == tuned.adapters[0].key
        scores = runner.step([(row.lane, min(6, len(row.lane.pending)))])
        if row.lane in scores:
            assert_close(scores[row.lane], tuned.scores(row.tokens, 0))
            row.take(scores[row.lane])
    assert runner.merged.key is not None
    other = Row(runner, prompt_of(5, 2), tuned.adapters[1])
    scores = runner.step([(row.lane, 1), (other.lane, 5)])  # a row on another adapter comes
    assert runner.merged.key is None
    assert_close(scores[row.lane], tuned.scores(row.tokens, 0))
    assert_close(scores[other.lane], tuned.scores(other.tokens, 1))
    after = {name.replace(".base.", "."): tensor for name, tensor in model.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_layer_that_shares_its_weight_is_not_merged(tmp_path: Path) -> None:
    config = copy.deepcopy(FAMILIES["llama"])
    config.tie_word_embeddings = True
    model = make_model(config)
    tuned = Tuned(model, tmp_path, [{"r": 2, "target_modules": ["lm_head"]}, {"r": 2, "target_modules": ["q_proj"]}])
    runner = ModelRunner(as_base(model), BUDGET)
    assert [runner.merged.may(adapter) for adapter in tuned.adapters] == [False, True]
    assert isinstance(runner.merged, MergedWeights)


def test_the_engine_merges_after_a_streak_and_answers_the_same(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "llama")
    adapters: list[AdapterRef] = [make_lora(model, tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    adapters.append(make_lora(model, tmp_path / "dora", seed=3, use_dora=True))
    engine, plain = CausalEngine(model, merge_after=4), CausalEngine(model)
    engine.load()
    plain.load()
    runner = engine._loaded()[1]
    assert isinstance(runner, ModelRunner)
    rows = [replace(row, adapter=adapters[0]) for row in ROWS]
    expected = ask(plain, rows)
    for _ in range(3):
        assert all(same(a, b) for a, b in zip(ask(engine, rows), expected, strict=True))
    assert runner.merged.key == adapters[0].key
    assert engine.check(adapters[2].folder).kind == "dora"  # reads base weights, and probes the base
    assert runner.merged.key is None
    ask(engine, rows)
    assert runner.merged.key == adapters[0].key
    mixed = [replace(ROWS[0], adapter=a, max_tokens=9) for a in (adapters[0], None, *adapters)]
    heard = [Heard() for _ in mixed]
    with held(engine, rows[0]):
        for row, deliver in zip(mixed, heard, strict=True):
            engine.submit(row, deliver)
    assert all(same(h.done(), d) for h, d in zip(heard, ask(plain, mixed), strict=True))
    assert runner.merged.key is None
    for e in (engine, plain):
        e.close()
