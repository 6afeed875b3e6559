"""Base weights in fewer bits: how far scores move, how much memory is saved, and LoRA on top."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig

from adapters.causal import CausalEngine
from adapters.causal.runner import ModelRunner
from adapters.errors import ModelUnavailable
from adapters.quantized import quantize, whole_weight
from tests.adapters.engine_contract import ask, same
from tests.adapters.test_causal import ROWS
from tests.adapters.test_causal_runner import BUDGET, Row, as_base, assert_close, prompt_of
from tests.adapters.test_kinds import load, make_adapter
from tests.adapters.tiny_llama import make_lora, make_tiny_llama
from tests.adapters.tiny_t5 import make_tiny_t5

WIDE = LlamaConfig(
    vocab_size=61, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.1,
)  # fmt: skip


def make_wide() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(WIDE)).eval().requires_grad_(False)


def layer_bytes(model: Any) -> int:
    """Bytes of everything in the transformer's layers, scales of quantised weights included."""
    found = 0
    for module in model.model.layers.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        found += sum(t.numel() * t.element_size() for t in [*own, *([state.absmax] if state is not None else [])])
    return found


@pytest.mark.parametrize(
    ("method", "weights_off", "scores_off", "smaller"), [("int8", 0.01, 0.03, 3.5), ("nf4", 0.1, 0.4, 6.0)]
)
def test_scores_stay_within_bounds_and_weights_take_less_memory(
    method: str, weights_off: float, scores_off: float, smaller: float
) -> None:
    whole, less = make_wide(), make_wide()
    quantize(less, method)
    assert layer_bytes(whole) / layer_bytes(less) > smaller
    ids = torch.tensor([prompt_of(40, 1)])
    with torch.inference_mode():
        expected, found = whole(input_ids=ids).logits, less(input_ids=ids).logits
    assert float((found - expected).norm() / expected.norm()) < scores_off
    layer = less.model.layers[0].mlp.up_proj
    weight = whole.model.layers[0].mlp.up_proj.weight
    assert whole_weight(layer).shape == weight.shape
    assert float((whole_weight(layer) - weight).norm() / weight.norm()) < weights_off


@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_adapters_go_on_top_of_the_rounded_base(method: str, tmp_path: Path) -> None:
    base = make_wide()
    configs = {
        "lora": LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"),
        "dora": LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"),
    }
    for kind, config in configs.items():
        make_adapter(base, config, tmp_path / kind)
    rounded = make_wide()
    quantize(rounded, method)
    same_weights = make_wide()  # the rounded base in whole numbers, for plain peft
    for path, layer in same_weights.named_modules():
        if isinstance(layer, torch.nn.Linear) and path != "lm_head":
            layer.weight.data = whole_weight(rounded.get_submodule(path)).clone()
    runner = ModelRunner(as_base(rounded), BUDGET)
    rows = {kind: Row(runner, prompt_of(9, 3), load(rounded, runner, tmp_path / kind)) for kind in configs}
    for _ in range(2):
        scores = runner.step([(row.lane, len(row.lane.pending)) for row in rows.values()])
        for kind, row in rows.items():
            tuned = PeftModel.from_pretrained(copy.deepcopy(same_weights), tmp_path / kind).eval()
            with torch.inference_mode():
                out = tuned(input_ids=torch.tensor([row.tokens])).logits[0, -1]
            assert_close(scores[row.lane], out)
            row.take(scores[row.lane])


@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_a_mixed_batch_on_a_rounded_base_gives_each_row_what_it_gets_alone(method: str, tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "llama")
    adapter = make_lora(model, tmp_path / "lora")
    engine = CausalEngine(model, quantized=method, merge_after=1)
    engine.load()
    rows = [replace(row, adapter=a) for row in ROWS for a in (None, adapter)]
    alone = [ask(engine, [row])[0] for row in rows]
    assert all(same(a, b) for a, b in zip(ask(engine, rows), alone, strict=True))
    engine.close()


def test_what_cannot_be_quantised_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_tiny_llama(tmp_path / "llama")
    for source, method, why in [
        (model, "int3", "one of"),
        (make_tiny_t5(tmp_path / "t5"), "int8", "Encoder-decoder"),
    ]:
        with pytest.raises(ModelUnavailable, match=why):
            CausalEngine(source, quantized=method).load()
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)  # as where the extra is not installed
    with pytest.raises(ModelUnavailable, match=r"lorebase\[quantized\]"):
        CausalEngine(model, quantized="nf4").load()
