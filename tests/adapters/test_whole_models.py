"""Whole fine-tuned models beside the base: served as if each stood alone, and the base untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import AdapterRef, CausalEngine, Engine, ReaderEngine, Row
from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.base_model import load_reader_base
from adapters.errors import InvalidAdapter
from adapters.training.methods import adapt
from adapters.training.settings import TrainingConfig
from tests.adapters.engine_contract import Heard, ask, held, same
from tests.adapters.reader_lora import write_lora
from tests.adapters.test_causal import ROWS
from tests.adapters.test_reader import BAKERY, LIGHTHOUSE
from tests.adapters.tiny_llama import make_lora, make_tiny_llama


def fine_tune(model: torch.nn.Module, folder: Path, seed: int, strength: float = 0.1) -> AdapterRef:
    """Move every weight of a model, and save it as full fine-tuning does."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(strength * parameter.std() * torch.randn(parameter.shape, generator=chance))
    folder.mkdir()
    adapt(model, TrainingConfig(method="full")).save(folder)
    return AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tuned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[AdapterRef, Path]]:
    """Two versions, and the same weights as model folders of their own."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("tuned")
        network = AutoModelForCausalLM.from_pretrained(model)
        made.append((fine_tune(network, folder / "version", seed), folder / "alone"))
        network.save_pretrained(folder / "alone")
        AutoTokenizer.from_pretrained(model).save_pretrained(folder / "alone")
    return made


@pytest.fixture
def make() -> Iterator[Callable[..., CausalEngine]]:
    engines: list[CausalEngine] = []

    def make(model: Path, **options: int | str) -> CausalEngine:
        engines.append(CausalEngine(model, **options))  # type: ignore[arg-type]
        engines[-1].load()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def together(engine: Engine, rows: list[Row]) -> list[Heard]:
    """Rows that are in the engine at the same time."""
    heard = [Heard() for _ in rows]
    with held(engine, replace(rows[0], adapter=None)):
        for row, deliver in zip(rows, heard, strict=True):
            engine.submit(row, deliver)
    return heard


def test_rows_on_whole_models_get_what_the_model_says_alone_beside_lora_and_base(
    make: Callable[..., CausalEngine], model: Path, tuned: list[tuple[AdapterRef, Path]], tmp_path: Path
) -> None:
    engine, lora = make(model), make_lora(model, tmp_path / "lora")
    plain = ask(engine, list(ROWS))
    expected = {None: plain, lora: ask(engine, [replace(row, adapter=lora) for row in ROWS])}
    for version, alone in tuned:
        facts = engine.check(version.folder)
        assert (facts.kind, facts.rank, facts.targets) == ("full", 0, ("model",))
        expected[version] = ask(make(alone), list(ROWS))
        assert any(a.answer != b.answer for a, b in zip(expected[version], plain, strict=True))
    mixed = [(adapter, i) for i in range(len(ROWS)) for adapter in expected]
    heard = together(engine, [replace(ROWS[i], adapter=adapter) for adapter, i in mixed])
    for h, (adapter, i) in zip(heard, mixed, strict=True):
        assert same(h.done(), expected[adapter][i])
    assert all(same(*pair) for pair in zip(ask(engine, list(ROWS)), plain, strict=True))


def test_they_stay_within_the_memory_for_adapters(
    make: Callable[..., CausalEngine], model: Path, tuned: list[tuple[AdapterRef, Path]]
) -> None:
    size = make(model).weight_bytes
    engine = make(model, adapter_budget_bytes=size)
    for version, _ in (*tuned, tuned[0]):
        ask(engine, [replace(ROWS[0], adapter=version)])
        assert dict(engine.adapter_memory().resident) == {version.key: size}
    assert engine.adapter_memory().evictions == 2
    with pytest.raises(InvalidAdapter) as refused:
        make(model, adapter_budget_bytes=size - 1).check(tuned[0][0].folder)
    assert refused.value.reason == "size"


def test_a_merged_adapter_makes_room_for_them_and_dora_is_measured_on_the_base(
    make: Callable[..., CausalEngine], model: Path, tuned: list[tuple[AdapterRef, Path]], tmp_path: Path
) -> None:
    lora = make_lora(model, tmp_path / "lora")
    dora = make_lora(model, tmp_path / "dora", seed=3, use_dora=True)
    engine, merging = make(model), make(model, merge_after=1)
    for adapter in (lora, tuned[0][0], dora, lora, tuned[0][0]):
        rows = [replace(row, adapter=adapter) for row in ROWS]
        for found, expected in zip(ask(merging, rows), ask(engine, rows), strict=True):
            assert found.answer == expected.answer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t | {"base_model.model.lm_head.weight": torch.ones(3, 3)}, "shape"),
        (lambda t: {n: v for n, v in t.items() if "lm_head" not in n}, "target"),
        (lambda t: t | {"base_model.model.more.weight": torch.ones(3)}, "target"),
        (lambda t: t | {"more": torch.ones(3)}, "format"),
        (lambda t: {n: v * float("nan") for n, v in t.items()}, "not_finite"),
        (lambda t: {}, "format"),
    ],
)
def test_what_is_not_the_whole_of_this_model_is_refused(
    make: Callable[..., CausalEngine], model: Path, tuned: list[tuple[AdapterRef, Path]], tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], reason: str,
) -> None:  # fmt: skip
    folder = tuned[0][0].folder
    (tmp_path / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    save_file(change(load_file(folder / ADAPTER_WEIGHTS)), tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(InvalidAdapter) as refused:
        make(model).check(tmp_path)
    assert refused.value.reason == reason


def test_beside_a_base_in_fewer_bits_they_are_refused(
    make: Callable[..., CausalEngine], model: Path, tuned: list[tuple[AdapterRef, Path]]
) -> None:
    with pytest.raises(InvalidAdapter, match="LOREBASE_QUANTIZE"):
        make(model, quantized="int8").check(tuned[0][0].folder)


@pytest.mark.model
def test_the_reader_reads_with_them_beside_lora_and_base(tmp_path: Path) -> None:
    version = fine_tune(load_reader_base().model, tmp_path / "version", 1, strength=0.05)
    engine, lora = ReaderEngine(dtype="float32"), write_lora(tmp_path / "lora")
    engine.load()
    try:
        assert engine.check(version.folder).kind == "full"
        row = Row("When was the lighthouse built?", (BAKERY, LIGHTHOUSE), min_confidence=0)
        rows = [replace(row, adapter=adapter) for adapter in (None, version, lora, version, None)]
        alone = [ask(engine, [each])[0] for each in rows]
        assert alone[0].confidence != pytest.approx(alone[1].confidence, abs=1e-4)
        for h, expected in zip(together(engine, rows), alone, strict=True):
            assert same(h.done(), expected)
    finally:
        engine.close()
