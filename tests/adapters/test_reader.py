"""The embedded reader: the engine contract, and what is its own: exact spans, windows, refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig

from adapters import AdapterRef, Done, Passage, ReaderEngine, Row
from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.base_model import load_reader_base
from adapters.errors import InvalidAdapter, QueueFull, RequestTooLong
from adapters.reader import _PROBE
from tests.adapters.engine_contract import EngineContract, ask, held
from tests.adapters.reader_lora import HIDDEN, QUERY, lora_tensors, write_lora
from tests.adapters.test_kinds import make_adapter

pytestmark = pytest.mark.model

LIGHTHOUSE = Passage(
    "The lighthouse at Skerry Point was built in 1874 by the engineer Anna Brandt. It stands 31 metres tall. "
    "Its lamp was turned by a clockwork until 1962."
)
BAKERY = Passage("The bakery on Mill Street opens at six in the morning and sells rye bread on Fridays.")


@pytest.fixture(scope="module")
def loaded() -> Iterator[ReaderEngine]:
    engine = ReaderEngine(dtype="float32")
    engine.load()
    yield engine
    engine.close()


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self) -> Iterator[ReaderEngine]:
        engine = ReaderEngine(dtype="float32")  # in bfloat16 padding alone changes the last digits
        engine.load()
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def adapters(cls, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterRef]:
        folder = tmp_path_factory.mktemp("adapters")
        return [write_lora(folder / str(seed), lora_tensors(seed=seed)) for seed in (1, 2)]

    @pytest.fixture(scope="class")
    @classmethod
    def rows(cls) -> list[Row]:
        return [
            Row("When was the lighthouse built?", (BAKERY, LIGHTHOUSE), min_confidence=0),
            Row("How tall is the lighthouse?", (LIGHTHOUSE,), min_confidence=0),
            Row("What does the bakery sell?", (LIGHTHOUSE, BAKERY), min_confidence=0),
            Row("Who built the lighthouse at Skerry Point?", (LIGHTHOUSE, BAKERY), min_confidence=0),
        ]


def answer(engine: ReaderEngine, row: Row) -> Done:
    return ask(engine, [row])[0]


def test_the_answer_is_cut_from_the_passage_that_holds_it(loaded: ReaderEngine) -> None:
    done = answer(loaded, Row("When was the lighthouse built?", (BAKERY, LIGHTHOUSE), min_confidence=0))
    assert done.answer == "1874"
    assert done.spans[0].passage == 1
    assert LIGHTHOUSE.text[done.spans[0].start : done.spans[0].end] == "1874"


def test_it_abstains_when_no_passage_answers(loaded: ReaderEngine) -> None:
    done = answer(loaded, Row("Which river flows through Vienna?", (BAKERY, LIGHTHOUSE)))
    assert done.abstained
    assert done.answer == ""
    assert done.spans == ()


def test_an_answer_beyond_the_first_window_is_found_at_its_offset(loaded: ReaderEngine) -> None:
    filler = "The committee met again and noted the minutes of the meeting before. " * 60
    passage = Passage(filler + LIGHTHOUSE.text + filler)
    done = answer(loaded, Row("Who built the lighthouse at Skerry Point?", (passage,), min_confidence=0))
    span = done.spans[0]
    assert "Anna Brandt" in passage.text[span.start : span.end]
    assert len(filler) <= span.start < len(filler) + len(LIGHTHOUSE.text)


def test_an_answer_has_at_most_max_tokens(loaded: ReaderEngine) -> None:
    done = answer(loaded, Row("Who built the lighthouse?", (LIGHTHOUSE,), max_tokens=1, min_confidence=0))
    assert done.completion_tokens == 1


def test_a_question_too_long_to_read_is_refused(loaded: ReaderEngine) -> None:
    with pytest.raises(RequestTooLong, match="128"):
        loaded.submit(Row("why " * 200, (BAKERY,)), lambda event: None)


def test_more_waiting_rows_than_allowed_are_refused_those_of_a_greedy_share_key_first() -> None:
    engine = ReaderEngine(max_waiting=2)
    engine.load()
    row, other = (Row("When?", (BAKERY,), min_confidence=0, share_key=key) for key in ("greedy", "other"))
    try:
        with held(engine, row):
            with pytest.raises(QueueFull):
                engine.submit(row, lambda event: None)
            engine.submit(other, lambda event: None)
            with pytest.raises(QueueFull):
                engine.submit(replace(row, share_key="late"), lambda event: None)
        answer(engine, row)
    finally:
        engine.close()


def test_one_batch_serves_rows_on_different_adapters(loaded: ReaderEngine, tmp_path: Path) -> None:
    refs = [write_lora(tmp_path / str(seed), lora_tensors(seed=seed, rank=r), rank=r) for seed, r in ((1, 2), (2, 16))]
    row = Row("What does the bakery sell?", (BAKERY, LIGHTHOUSE), min_confidence=0)
    rows = [replace(row, adapter=adapter) for adapter in (None, *refs, None, *refs)]
    together = ask(loaded, rows)
    alone = [answer(loaded, each) for each in rows]
    assert [d.answer for d in together] == [d.answer for d in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_an_adapter_may_bring_its_own_head(loaded: ReaderEngine, tmp_path: Path) -> None:
    name = "base_model.model.qa_outputs.{}"
    torch.manual_seed(0)
    head = {name.format("weight"): torch.randn(2, HIDDEN), name.format("bias"): torch.zeros(2)}
    ref = write_lora(tmp_path / "a", {**lora_tensors(), **head}, modules_to_save=["qa_outputs"])
    assert loaded.check(ref.folder).rank == 4
    row = Row("What does the bakery sell?", (BAKERY,), min_confidence=0)
    assert answer(loaded, replace(row, adapter=ref)).confidence != answer(loaded, row).confidence


def _without_effect() -> dict[str, object]:
    return {n: t * 0 if "lora_B" in n else t for n, t in lora_tensors().items()}


def _other_shape() -> dict[str, object]:
    module = f"base_model.model.{QUERY.format(0)}"
    tensors = lora_tensors()
    first = next(iter(tensors.values()))
    return {f"{module}.lora_A.weight": first.new_ones(4, 768), f"{module}.lora_B.weight": first.new_ones(768, 4)}


def _other_module() -> dict[str, object]:
    return {n.replace("bert.encoder.layer", "model.layers"): t for n, t in lora_tensors().items()}


def _not_finite() -> dict[str, object]:
    return {n: t / 0 for n, t in lora_tensors().items()}


@pytest.mark.parametrize(
    ("reason", "tensors", "config"),
    [
        ("no_effect", _without_effect, {}),
        ("shape", _other_shape, {}),
        ("target", _other_module, {}),
        ("not_finite", _not_finite, {}),
        ("rank", lora_tensors, {"r": 8}),
        ("rank", lora_tensors, {"r": 100_000}),
        ("format", lora_tensors, {"peft_type": "IA3"}),
        ("format", lora_tensors, {"use_dora": True}),
        ("config", lora_tensors, {"peft_type": "OFT"}),
        ("base", lora_tensors, {"base_model_name_or_path": "some/other-model"}),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_the_reason(
    loaded: ReaderEngine, tmp_path: Path, reason: str, tensors: object, config: dict[str, object]
) -> None:
    ref = write_lora(tmp_path / "a", tensors(), **config)  # type: ignore[operator]
    with pytest.raises(InvalidAdapter) as refused:
        loaded.check(ref.folder)
    assert refused.value.reason == reason


def test_dora_and_ia3_say_what_they_say_by_plain_peft(loaded: ReaderEngine, tmp_path: Path) -> None:
    base = load_reader_base().model
    row = Row("What does the bakery sell?", (BAKERY,), min_confidence=0)
    folders = []
    for kind, config in {
        "dora": LoraConfig(r=4, use_dora=True, target_modules=["query", "value"], task_type="QUESTION_ANS"),
        "ia3": IA3Config(
            target_modules=["key", "output.dense"], feedforward_modules=["output.dense"], task_type="QUESTION_ANS"
        ),
    }.items():
        tuned = make_adapter(base, config, tmp_path / kind)
        files = loaded._read_adapter(tmp_path / kind)
        found = loaded._probe(loaded._bring(files, kind))
        ids = loaded._tokenizer.encode(_PROBE[0], _PROBE[1]).ids
        tensor = torch.tensor([ids])  # [1, T]
        with torch.inference_mode():
            out = tuned.base_model.model(input_ids=tensor, attention_mask=torch.ones_like(tensor))
        expected = torch.stack([out.start_logits, out.end_logits])  # [2, 1, T]
        assert float((found - expected).abs().max()) < 1e-3
        assert loaded.check(tmp_path / kind).kind == kind
        folders.append(AdapterRef(sha256_of(tmp_path / kind / ADAPTER_WEIGHTS), tmp_path / kind))
    rows = [replace(row, adapter=adapter) for adapter in (None, *folders, write_lora(tmp_path / "lora"), None)]
    together = ask(loaded, rows)
    for one, other in zip(together, [answer(loaded, each) for each in rows], strict=True):
        assert one.answer == other.answer
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_learned_tokens_of_a_prompt_are_refused(loaded: ReaderEngine, tmp_path: Path) -> None:
    ref = write_lora(tmp_path, {"prompt_embeddings": torch.ones(2, 8)}, peft_type="PROMPT_TUNING", num_virtual_tokens=2)
    with pytest.raises(InvalidAdapter, match="no prompt"):
        loaded.check(ref.folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"\x80\x04 pickle", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}"])
def test_weights_that_are_no_safetensors_are_refused(loaded: ReaderEngine, tmp_path: Path, content: bytes) -> None:
    ref = write_lora(tmp_path / "a")
    (ref.folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(InvalidAdapter) as refused:
        loaded.check(ref.folder)
    assert refused.value.reason == "format"


def test_equal_weights_with_another_scaling_are_another_adapter(loaded: ReaderEngine, tmp_path: Path) -> None:
    row = Row("What does the bakery sell?", (BAKERY, LIGHTHOUSE), min_confidence=0)
    confidences: Sequence[float] = [
        answer(loaded, replace(row, adapter=write_lora(tmp_path / str(alpha), lora_alpha=alpha))).confidence
        for alpha in (1, 64)
    ]
    assert confidences[0] != confidences[1]


def test_bfloat16_gives_the_answers_of_float32(loaded: ReaderEngine) -> None:
    rows = [
        Row("When was the lighthouse built?", (BAKERY, LIGHTHOUSE), min_confidence=0),
        Row("How tall is the lighthouse?", (LIGHTHOUSE,), min_confidence=0),
        Row("When does the bakery open?", (LIGHTHOUSE, BAKERY), min_confidence=0),
    ]
    engine = ReaderEngine(dtype="bfloat16")
    engine.load()
    try:
        assert [d.answer for d in ask(engine, rows)] == [d.answer for d in ask(loaded, rows)]
    finally:
        engine.close()
