"""Every kind of adapter that is served computes what peft computes, also beside rows of other kinds."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.causal import CausalEngine
from adapters.causal.runner import ModelRunner
from adapters.engine import AdapterRef
from adapters.errors import InvalidAdapter
from adapters.lora_stack import LoadedLora
from adapters.row_changes import check_prompts, linear_weight, load_adapter
from adapters.validation import check_fits, read_adapter
from tests.adapters.engine_contract import EngineContract, ask
from tests.adapters.test_causal import ROWS
from tests.adapters.test_causal_runner import BUDGET, FAMILIES, Row, as_base, assert_close, make_model, prompt_of
from tests.adapters.tiny_llama import make_tiny_llama

CAUSAL: dict[str, Any] = {"task_type": "CAUSAL_LM"}
CONFIGS = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **CAUSAL),
    "dora": LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules="all-linear", **CAUSAL),
    "ia3": IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj", "lm_head"], feedforward_modules=["down_proj"], **CAUSAL
    ),
    "prompt_tuning": PromptTuningConfig(num_virtual_tokens=5, **CAUSAL),
    "p_tuning": PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=16, **CAUSAL),
    "prefix_tuning": PrefixTuningConfig(num_virtual_tokens=6, **CAUSAL),
    "llama_adapter": AdaptionPromptConfig(adapter_len=4, adapter_layers=2, **CAUSAL),
}
GPT2 = {
    "dora": LoraConfig(r=4, use_dora=True, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, **CAUSAL),
    "ia3": IA3Config(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], **CAUSAL),
    "prefix_tuning": PrefixTuningConfig(num_virtual_tokens=6, **CAUSAL),
}


def make_adapter(model: Any, config: Any, folder: Path, seed: int = 1) -> Any:
    """Save an adapter by plain peft; the peft model that computes with it."""
    torch.manual_seed(seed)
    tuned = get_peft_model(copy.deepcopy(model), copy.deepcopy(config))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "ia3_l" in name:
                parameter.uniform_(0.3, 1.7)
            elif "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
            elif parameter.requires_grad or "adaption" in name:
                parameter.normal_(std=0.3)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()


def load(model: Any, runner: ModelRunner, folder: Path) -> LoadedLora:
    files = read_adapter(folder)
    check_fits(files, as_base(make_model(model.config)).linears, {})
    check_prompts(files, model)
    loaded = load_adapter(files, str(folder), torch.float32, "cpu", partial(linear_weight, model))
    if files.virtual is not None:
        runner.check_virtual(files.virtual, files.kind)
        if files.kind == "prefix_tuning":
            return replace(loaded, virtual=runner.prefix(files.virtual))
    return loaded


@torch.inference_mode()
def by_peft(tuned: Any, token_ids: list[int]) -> torch.Tensor:
    """Scores [V] after the whole sequence, computed anew."""
    ids = torch.tensor([token_ids])
    return tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].float()


@pytest.mark.parametrize(
    ("family", "configs"),
    [("llama", CONFIGS), ("mistral beyond its window", {"llama_adapter": CONFIGS["llama_adapter"]}), ("gpt2", GPT2)],
)
def test_kinds_share_steps_and_each_computes_what_peft_computes(
    family: str, configs: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(FAMILIES[family])
    plain = copy.deepcopy(model)
    tuned = {kind: make_adapter(model, config, tmp_path / kind) for kind, config in configs.items()}
    runner = ModelRunner(as_base(model), BUDGET)
    adapters = {kind: load(model, runner, tmp_path / kind) for kind in configs}
    assert [read_adapter(tmp_path / kind).kind for kind in configs] == list(configs)
    chosen = [None, *configs, *configs, None]
    rows = [Row(runner, prompt_of(3 + 2 * i % 7, i), adapters[kind] if kind else None) for i, kind in enumerate(chosen)]
    for step in range(6):
        joined = rows[: 4 + 3 * step]
        work = [(r.lane, min(4, len(r.lane.pending))) for r in joined]  # prompts in pieces, rows joining
        scores = runner.step(work)
        for row, kind in zip(joined, chosen, strict=False):
            if row.lane in scores:
                expected = by_peft(tuned[kind] if kind else plain, row.tokens)
                assert_close(scores[row.lane], expected)
                row.take(scores[row.lane])
    assert all(len(row.tokens) > 4 for row in rows)


def test_a_bottleneck_adds_its_layer_to_what_the_feed_forward_says(tmp_path: Path) -> None:
    model = make_model(FAMILIES["llama"])
    plain = copy.deepcopy(model)
    torch.manual_seed(1)
    path = "model.layers.0.mlp.down_proj"
    down, up = torch.nn.Linear(32, 5), torch.nn.Linear(5, 32)
    tensors = {
        f"base_model.model.{path}.bottleneck_{side}.{name}": parameter.detach()
        for side, layer in (("down", down), ("up", up))
        for name, parameter in layer.named_parameters()
    }
    save_file(tensors, tmp_path / ADAPTER_WEIGHTS)
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "BOTTLENECK", "bottleneck_size": 5}))
    plain.get_submodule(path).register_forward_hook(lambda _, __, y: y + up(torch.nn.functional.gelu(down(y))))
    runner = ModelRunner(as_base(model), BUDGET)
    rows = [Row(runner, prompt_of(n, n), a) for n, a in ((5, None), (9, load(model, runner, tmp_path)))]
    for _ in range(3):
        scores = runner.step([(row.lane, len(row.lane.pending)) for row in rows])
        assert_close(scores[rows[1].lane], by_peft(plain, rows[1].tokens))
        for row in rows:
            row.take(scores[row.lane])


class TestContract(EngineContract):
    """The causal engine over adapters that are no LoRA."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return make_tiny_llama(tmp_path_factory.mktemp("llama"))

    @pytest.fixture(scope="class")
    @classmethod
    def adapters(cls, model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterRef]:
        folder = tmp_path_factory.mktemp("kinds")
        network = AutoModelForCausalLM.from_pretrained(model)
        refs = []
        for kind in ("prefix_tuning", "dora"):
            make_adapter(network, CONFIGS[kind], folder / kind)
            refs.append(AdapterRef(sha256_of(folder / kind / ADAPTER_WEIGHTS), folder / kind))
        return refs

    @pytest.fixture
    def engine(self, model: Path) -> Iterator[CausalEngine]:
        engine = CausalEngine(model)
        engine.load()
        yield engine
        engine.close()

    @pytest.fixture
    def rows(self) -> Sequence[Any]:
        return ROWS

    def test_learned_tokens_count_in_the_context(self, engine: CausalEngine, adapters: Sequence[AdapterRef]) -> None:
        long = "word " * 60
        row = replace(ROWS[0], question=long, passages=(), grounded=False, max_tokens=1)
        (base,) = ask(engine, [row])
        tokens = base.prompt_tokens
        fits = replace(row, max_tokens=512 - tokens - 6)
        (done,) = ask(engine, [replace(fits, adapter=adapters[0])])
        assert done.completion_tokens
        with pytest.raises(Exception, match="Shorten"):
            engine.submit(replace(fits, adapter=adapters[0], max_tokens=fits.max_tokens + 1), lambda event: None)


class TestRefusals:
    """What cannot be served is refused with the reason, before it is registered."""

    def _reason(self, folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config))
        save_file(tensors, folder / ADAPTER_WEIGHTS)
        with pytest.raises(InvalidAdapter) as refusal:
            read_adapter(folder)
        return refusal.value.reason, str(refusal.value)

    @pytest.mark.parametrize(
        ("kind", "why"),
        [
            ("ADALORA", "third factor"),
            ("LOHA", "low-rank"),
            ("OFT", "base weights"),
            ("NEW", "not known"),
        ],
    )
    def test_other_kinds(self, tmp_path: Path, kind: str, why: str) -> None:
        reason, message = self._reason(tmp_path, {"peft_type": kind}, {"x": torch.ones(1)})
        assert reason == "config"
        assert why in message

    @pytest.mark.parametrize(
        ("config", "tensors", "reason"),
        [
            ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}, {"prompt_embeddings": (4, 8)}, "rank"),
            ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 10**9}, {"prompt_embeddings": (4, 8)}, "rank"),
            ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}, {"other": (4, 8)}, "format"),
            ({"peft_type": "IA3"}, {"base_model.model.q.ia3_l": (4, 8)}, "shape"),
            (
                {"peft_type": "BOTTLENECK", "bottleneck_size": 4},
                {"base_model.model.q.bottleneck_up.bias": (8,)},
                "format",
            ),
            ({"peft_type": "ADAPTION_PROMPT", "adapter_len": 2}, {"base_model.model.q.adaption_gate": (1,)}, "format"),
        ],
    )
    def test_tensors_that_do_not_agree_with_the_config(
        self, tmp_path: Path, config: dict[str, Any], tensors: dict[str, tuple[int, ...]], reason: str
    ) -> None:
        assert self._reason(tmp_path, config, {n: torch.ones(s) for n, s in tensors.items()})[0] == reason

    def test_dora_without_its_magnitudes(self, tmp_path: Path) -> None:
        make_adapter(make_model(FAMILIES["llama"]), CONFIGS["dora"], tmp_path)
        tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
        config = json.loads((tmp_path / ADAPTER_CONFIG).read_text())
        assert self._reason(tmp_path, {**config, "use_dora": False}, tensors)[0] == "format"
        plain = {name: tensor for name, tensor in tensors.items() if "magnitude" not in name}
        assert self._reason(tmp_path, config, plain)[0] == "format"

    @pytest.mark.parametrize("kind", ["prompt_tuning", "prefix_tuning", "llama_adapter", "ia3"])
    def test_an_adapter_of_another_base(self, tmp_path: Path, kind: str) -> None:
        make_adapter(make_model(FAMILIES["llama"]), CONFIGS[kind], tmp_path / kind)
        wide = AutoModelForCausalLM.from_pretrained(make_tiny_llama(tmp_path / "wide"))
        runner = ModelRunner(as_base(wide), BUDGET)
        with pytest.raises(InvalidAdapter) as refusal:
            load_for(wide, runner, tmp_path / kind)
        assert refusal.value.reason == "shape"


def load_for(model: Any, runner: ModelRunner, folder: Path) -> None:
    files = read_adapter(folder)
    check_fits(files, {"lm_head": (1, 1), **dict.fromkeys(files.targets, (64, 64))}, {})
    check_prompts(files, model)
    if files.virtual is not None:
        runner.check_virtual(files.virtual, files.kind)
