"""Methods of training: what LoRA's literature promises holds, and each method learns what it is shown."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.base_model import load_reader_base
from adapters.causal.model import CausalModel, load_causal_model
from adapters.errors import InvalidTrainingData
from adapters.template import Passage
from adapters.training import METHODS, Method, TrainingExample, TrainingProgress, config_of
from adapters.training.language import AnswerWriting, encode_example
from adapters.training.methods import adapt, target_modules
from adapters.training.run import reading_questions
from adapters.training.trainer import train_adapter, train_reader_adapter
from examples.small_lm.tenants import REGISTER, tenant_examples
from tests.adapters.test_training_data import towns
from tests.adapters.tiny_llama import make_tiny_llama

SMALL_LM = str(Path(__file__).parents[2] / "examples" / "small_lm")
LORAS = [method for method in METHODS if method.endswith(("lora", "dora"))]
READER_METHODS = [m for m in METHODS if m not in ("prompt", "prefix", "p_tuning", "llama_adapter")]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal_model(make_tiny_llama(tmp_path_factory.mktemp("llama")), dtype="float32")


def ids() -> torch.Tensor:
    return torch.tensor([[5, 9, 11, 40, 12, 7]])  # [1, T]


def scores(model: Any) -> torch.Tensor:
    """What a language model says to the same few tokens, the learned ones before them left out: [T, vocabulary]."""
    with torch.inference_mode():
        return model.eval()(input_ids=ids(), attention_mask=torch.ones_like(ids())).logits[0, -ids().shape[1] :]


@pytest.mark.parametrize("method", [*LORAS, "bottleneck", "ia3", "llama_adapter", "full"])
def test_before_the_first_step_an_adapter_equals_its_base(llama: CausalModel, method: Method) -> None:
    model = copy.deepcopy(llama.model)
    before = scores(model)
    wanted = {"method": method, **({"targets": "all"} if method in LORAS else {})}
    adapted = adapt(model, config_of(wanted, generates=True))
    loose = method == "qlora"  # the base itself is rounded to four bits, then the adapter adds nothing
    after = scores(adapted.model)
    if loose:
        with adapted.model.disable_adapter():
            before = scores(adapted.model)
    assert torch.allclose(before, after, atol=1e-5)
    if method in LORAS:
        assert not any(tensor.any() for name, tensor in adapted.state().items() if "lora_B" in name)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_an_adapter_merged_into_its_base_and_taken_out_again_changes_nothing(
    llama: CausalModel, method: Method
) -> None:
    adapted = adapt(copy.deepcopy(llama.model), config_of({"method": method, "rank": 4}, generates=True))
    base = scores(llama.model)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    beside = scores(adapted.model)
    assert not torch.allclose(base, beside, atol=1e-3)
    adapted.model.merge_adapter()
    assert torch.allclose(scores(adapted.model), beside, atol=1e-4), "W + BA"
    adapted.model.unmerge_adapter()
    assert torch.allclose(scores(adapted.model), beside, atol=1e-4)
    with adapted.model.disable_adapter():
        assert torch.allclose(scores(adapted.model), base, atol=1e-4)


def test_queries_and_values_are_adapted_unless_more_is_asked_for(llama: CausalModel) -> None:
    def targets(**given: Any) -> set[str]:
        return {name.rsplit(".", 1)[-1] for name in target_modules(llama.model, config_of(given, generates=True))}

    assert targets() == {"q_proj", "v_proj"}
    assert targets(targets="attention") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert targets(targets="all") == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.model
def test_the_readers_layers_go_by_other_names_and_mean_the_same() -> None:
    model = load_reader_base().model

    def targets(wanted: str) -> set[str]:
        names = target_modules(model, config_of({"targets": wanted}, generates=False))
        return {name.split("encoder.layer.0.")[-1] for name in names if "layer.0." in name}

    named = {wanted: targets(wanted) for wanted in ("qv", "attention", "all")}
    assert named["qv"] == {"attention.self.query", "attention.self.value"}
    assert named["attention"] == named["qv"] | {"attention.self.key", "attention.output.dense"}
    assert named["all"] == named["attention"] | {"intermediate.dense", "output.dense"}


def test_rslora_scales_by_the_root_of_the_rank(llama: CausalModel) -> None:
    for method, scaling in (("lora", 16 / 16), ("rslora", 16 / math.sqrt(16))):
        given = {"method": method, "rank": 16, "alpha": 16}
        adapted = adapt(copy.deepcopy(llama.model), config_of(given, generates=True))
        layers = [m for name, m in adapted.model.named_modules() if name.endswith("q_proj")]
        assert [m.scaling["default"] for m in layers] == [scaling] * len(layers)


def writing(model: CausalModel, examples: list[TrainingExample]) -> AnswerWriting:
    return AnswerWriting(examples, model.tokenizer, min(model.eos_ids), model.pad_id, 900)


def loss(network: Any, task: AnswerWriting) -> float:
    """Of all examples of a task together."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=network.dtype == torch.bfloat16):
        return float(task.loss(network.eval(), range(len(task)), random.Random(0)))


@pytest.fixture(scope="module")
def unlearned() -> float:
    """What the small language model makes of the examples that are kept back, as it stands."""
    model = load_causal_model(SMALL_LM)
    return loss(model.model, writing(model, tenant_examples(REGISTER, 16, seed=1)))


@pytest.mark.model
@pytest.mark.parametrize("method", METHODS)
def test_each_method_with_nothing_else_said_learns_on_a_language_model(
    unlearned: float, method: Method, tmp_path: Path
) -> None:
    model = load_causal_model(SMALL_LM)
    config = config_of({"method": method}, generates=True)
    trained = train_adapter(model.model, writing(model, tenant_examples(REGISTER, 80, seed=0)), tmp_path, config)
    assert trained.trainable == sum(p.numel() for p in model.model.parameters() if p.requires_grad) or method in (
        "prompt", "prefix", "p_tuning"
    )  # fmt: skip
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    network = model.model
    if method not in ("bottleneck", "full"):  # the two that peft does not have
        network = PeftModel.from_pretrained(load_causal_model(SMALL_LM).model, str(tmp_path))
    learned = loss(network, writing(model, tenant_examples(REGISTER, 16, seed=1)))
    assert learned < 0.85 * unlearned, f"{unlearned:.2f} before, {learned:.2f} after"


@pytest.mark.model
@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m == "bottleneck" else pytest.mark.long) for m in READER_METHODS]
)
def test_each_method_that_applies_learns_on_the_reader(method: Method, tmp_path: Path) -> None:
    base = load_reader_base()
    told: list[TrainingProgress] = []
    rate = {"full": 2e-4}.get(method, 1e-2 if method == "ia3" else 3e-3)
    given = {"method": method, "epochs": 4, "lookalike_share": 0.0, "hidden_dropout": 0.0, "warmup_steps": 1}
    config = config_of({**given, "learning_rate": rate, "batch_size": 10}, generates=False)
    train_reader_adapter(base, reading_questions(towns()), tmp_path, config, report=told.append, report_every=1)
    assert told[-1].loss < 0.6 * told[0].loss
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    began_at_zero = [tensor for name, tensor in tensors.items() if "lora_B" in name or "bottleneck_up.weight" in name]
    assert all(bool(tensor.any()) for tensor in began_at_zero)
    assert began_at_zero or method in ("ia3", "full")


def test_methods_that_learn_tokens_of_a_prompt_are_refused_on_the_reader() -> None:
    for method in set(METHODS) - set(READER_METHODS):
        with pytest.raises(InvalidTrainingData, match="the reader has none"):
            config_of({"method": method}, generates=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "ia3", "rank": 4}, "rank: ia3 has none"),
        ({"method": "full", "targets": "all"}, "targets: full has none"),
        ({"method": "lora", "width": 3}, "width: lora has none"),
        ({"virtual_tokens": 3}, "virtual_tokens: lora has none"),
        ({"max_length": 513}, "512 tokens"),
    ],
)
def test_what_a_method_would_not_heed_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTrainingData, match=said):
        config_of(given, generates=False)


def test_an_examples_prompt_is_the_one_serving_builds_and_only_the_answer_is_learned(llama: CausalModel) -> None:
    example = TrainingExample("Who leads?", ("Ms Tell",), (Passage("Nobody."), Passage("Ms Tell leads.")))
    prompt, said = encode_example(example, llama.tokenizer, min(llama.eos_ids), 400)
    assert llama.tokenizer.decode(said[:-1]) == "Ms Tell [2]"
    assert "Ms Tell leads." in llama.tokenizer.decode(prompt)
    abstained = encode_example(TrainingExample("Who?"), llama.tokenizer, None, 400)[1]
    assert llama.tokenizer.decode(abstained) == "I cannot answer this from the documents."
