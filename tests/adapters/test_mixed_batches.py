"""Rows of random adapters that join and leave at random never disturb each other.

The slow path to compare with is the plain model with W + ΔW in place of W, asked for each row's whole sequence anew.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.causal.runner import ModelRunner
from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora
from adapters.row_changes import linear_weight, load_adapter
from adapters.row_lora import linear_shapes
from tests.adapters.test_causal_runner import BUDGET, FAMILIES, Row, as_base, make_model, prompt_of

LINEARS = linear_shapes(make_model(FAMILIES["llama"]))
CLOSE = 1e-4  # of the largest score, in float32


@st.composite
def adapter_files(draw: st.DrawFn) -> AdapterFiles:
    """LoRA or DoRA of any rank on any layers, with any scaling."""
    targets = draw(st.lists(st.sampled_from(sorted(LINEARS)), min_size=1, max_size=6, unique=True), label="targets")
    rank = draw(st.sampled_from([1, 2, 3, 5, 8, 9, 17, 33, 64]), label="rank")
    make = torch.Generator().manual_seed(draw(st.integers(0, 10**6), label="seed"))
    factors, magnitudes = {}, {}
    dora = draw(st.booleans(), label="dora")
    for module in targets:
        d_out, d_in = LINEARS[module]
        a = torch.randn(rank, d_in, generator=make) / d_in**0.5  # [r, d_in]
        factors[module] = (a, torch.randn(d_out, rank, generator=make) * 0.3)  # B [d_out, r]
        if dora:
            magnitudes[module] = torch.rand(d_out, generator=make) + 0.5  # [d_out]
    scaling = draw(st.sampled_from([0.25, 1.0, 2.0]), label="scaling")
    return AdapterFiles("lora", "", rank, scaling, factors, magnitudes=magnitudes)


def with_weights(plain: Any, files: AdapterFiles) -> Any:
    """The plain model with the adapter's weights in place of its own."""
    tuned = copy.deepcopy(plain)
    for module, (a, b) in files.factors.items():
        layer = tuned.get_submodule(module)
        weight = layer.weight + files.scaling * (b @ a)  # [d_out, d_in]
        if module in files.magnitudes:
            weight *= (files.magnitudes[module] / weight.norm(dim=1))[:, None]
        layer.weight.copy_(weight)
    return tuned


@torch.inference_mode()
def alone(model: Any, token_ids: Sequence[int]) -> torch.Tensor:
    """Scores [V] after the whole sequence."""
    scores: torch.Tensor = model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0, -1]
    return scores


def test_each_row_gets_what_it_gets_alone_whoever_joins_and_leaves() -> None:
    model = make_model(FAMILIES["llama"])
    plain = copy.deepcopy(model)
    runner = ModelRunner(as_base(model), BUDGET)
    tokens: Counter[bool] = Counter()

    def load(files: AdapterFiles) -> LoadedLora:
        return load_adapter(files, str(id(files)), torch.float32, "cpu", partial(linear_weight, model))

    @given(data=st.data())
    @settings(max_examples=15, deadline=None)
    def scenario(data: st.DataObject) -> None:
        drawn = data.draw(st.lists(adapter_files(), min_size=1, max_size=4), label="adapters")
        choices: list[tuple[LoadedLora | None, Any]] = [(None, plain)]
        choices += [(load(files), with_weights(plain, files)) for files in drawn]
        running: list[tuple[Row, Any]] = []
        for step in range(8):
            for i in range(data.draw(st.integers(0, 4), label="join")):
                adapter, reference = data.draw(st.sampled_from(choices))
                length = data.draw(st.integers(1, 18), label="prompt")
                running.append((Row(runner, prompt_of(length, 10 * step + i), adapter), reference))
            if running and data.draw(st.booleans(), label="leave"):
                row, _ = running.pop(data.draw(st.integers(0, len(running) - 1)))
                runner.cache.release(row.lane.slot, 64)
            if not running:
                continue
            work = [(r.lane, data.draw(st.integers(1, len(r.lane.pending)), label="piece")) for r, _ in running]
            scores = runner.step(work)
            for row, reference in running:
                if row.lane in scores:
                    found, expected = scores[row.lane], alone(reference, row.tokens)
                    assert float((found - expected).abs().max()) <= CLOSE * max(1.0, float(expected.abs().max()))
                    tokens[int(found.argmax()) == int(expected.argmax())] += 1
                    row.take(found)
        for row, _ in running:
            runner.cache.release(row.lane.slot, 64)

    scenario()
    assert tokens.total() > 200
    assert tokens[True] >= 0.99 * tokens.total()
