"""Encoder-decoder models behind the same seam: the contract, and each row what plain transformers and peft say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig, BartForConditionalGeneration

from adapters.causal import CausalEngine
from adapters.causal.encoder_decoder import EncoderDecoderRunner
from adapters.causal.model import load_causal_model
from adapters.causal.runner import Lane
from adapters.engine import AdapterRef, Row
from adapters.errors import InvalidAdapter, ModelUnavailable, RequestTooLong
from adapters.prompt import pack
from tests.adapters.engine_contract import EngineContract, Heard, ask
from tests.adapters.reader_lora import write_lora
from tests.adapters.test_causal import ROWS
from tests.adapters.test_causal_runner import assert_close
from tests.adapters.tiny_llama import make_lora, tiny_tokenizer
from tests.adapters.tiny_t5 import make_tiny_t5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterRef]:
    """One on the attention of encoder, decoder and between them; one on everything, DoRA."""
    folder = tmp_path_factory.mktemp("lora")
    everything = ("q", "k", "v", "o", "wi_0", "wi_1", "wo")
    return [
        make_lora(model, folder / "one", seed=1, targets=("q", "v"), scale=1.0),
        make_lora(model, folder / "two", seed=2, rank=8, targets=everything, scale=1.0, use_dora=True),
    ]


class TestContract(EngineContract):
    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return ROWS


def test_it_says_what_plain_generate_says(engine: CausalEngine, model: Path, adapters: Sequence[AdapterRef]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [replace(row, adapter=adapter) for row in ROWS for adapter in (None, *adapters)]
    for row, done in zip(rows, ask(engine, rows), strict=True):
        plain = AutoModelForSeq2SeqLM.from_pretrained(model)
        if row.adapter:
            plain = PeftModel.from_pretrained(plain, row.adapter.folder)
        ids = torch.tensor([pack(row, tokenizer, context=512).token_ids])  # [1, S]
        out = plain.generate(input_ids=ids, do_sample=False, max_new_tokens=row.max_tokens)  # [1, 1 + n]
        assert done.answer == tokenizer.decode(out[0, 1:], skip_special_tokens=True).strip()


def test_rows_that_join_and_leave_get_the_scores_of_the_whole_sequence_anew(model: Path) -> None:
    base = load_causal_model(model)
    plain = AutoModelForSeq2SeqLM.from_pretrained(model)
    runner = EncoderDecoderRunner(base, 1 << 24)
    rows: list[tuple[Lane, list[int], list[int]]] = []
    for step in range(9):
        if step in (0, 1, 3, 4):
            prompt = [(7 * i + step) % 300 + 5 for i in range(4 + 6 * step)]
            place = runner.cache.allocate(len(prompt) + 9)
            rows.append((Lane(place, None, prompt), prompt, [base.pad_id]))
        if step in (5, 7):
            lane, _, _ = rows.pop(step - 5)
            runner.cache.release(lane.slot, 0)
        scores = runner.step([(lane, min(5, len(lane.pending))) for lane, _, _ in rows])
        for lane, prompt, answer in rows:
            if lane in scores:
                with torch.inference_mode():
                    out = plain(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([answer]))
                assert_close(scores[lane], out.logits[0, -1])
                answer.append(int(scores[lane].argmax()))
                lane.pending = answer[-1:]
    assert [len(answer) for _, _, answer in rows] == [8, 3]


def test_a_failed_step_changes_nothing(model: Path) -> None:
    base = load_causal_model(model)
    runner = EncoderDecoderRunner(base, 1 << 24)
    good, bad = (Lane(runner.cache.allocate(20), None, [5, 6, 7]) for _ in range(2))
    runner.step([(good, 3), (bad, 3)])
    good.pending, bad.pending = (9,), (10**6,)
    with pytest.raises(IndexError):
        runner.step([(good, 1), (bad, 1)])
    found = runner.step([(good, 1)])[good]
    plain = AutoModelForSeq2SeqLM.from_pretrained(model)
    with torch.inference_mode():
        out = plain(input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[base.pad_id, 9]]))
    assert_close(found, out.logits[0, -1])


def test_memory_for_keys_and_values_is_counted(model: Path) -> None:
    token = 2 * 2 * 4 * 8 * 4  # layers, keys and values, heads, width, bytes
    engine = CausalEngine(model, kv_budget_bytes=300 * token)
    engine.load()
    assert all(done.completion_tokens for done in ask(engine, ROWS))
    with pytest.raises(RequestTooLong, match="memory"):
        engine.submit(replace(ROWS[0], max_tokens=200), Heard())
    engine.close()


def test_learned_tokens_are_refused(engine: CausalEngine, tmp_path: Path) -> None:
    ref = write_lora(
        tmp_path, {"prompt_embeddings": torch.ones(2, 32)}, peft_type="PROMPT_TUNING", num_virtual_tokens=2
    )
    with pytest.raises(InvalidAdapter, match="encoder-decoder"):
        engine.check(ref.folder)


def test_a_model_with_positions_of_its_own_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(chat=False)
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, init_std=0.5,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailable, match="BartForConditionalGeneration"):
        CausalEngine(tmp_path).load()
