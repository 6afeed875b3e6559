"""The `transformers` engine: the contract, and what is its own: streaming, budgets, loading, adapters."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.causal import CausalEngine
from adapters.causal.text import AnswerText, Detokenizer
from adapters.engine import AdapterRef, Event, Failed, Row, Token
from adapters.errors import AdapterError, InvalidAdapter, ModelUnavailable, QueueFull, RequestTooLong
from adapters.prompt import Prompt, pack
from adapters.template import ABSTENTION, Passage, PromptTemplate, Turn
from adapters.validation import tensor_bytes
from tests.adapters.engine_contract import PATIENCE_S, EngineContract, Heard, ask, held
from tests.adapters.tiny_llama import make_lora, make_tiny_llama

PASSAGES = (Passage("Revenue was 12 million in 2019.", "Report"), Passage("Staff have thirty days of holiday."))
ROWS = (
    Row("What was revenue?", PASSAGES, max_tokens=12, share_key="a"),
    Row("How many days?", PASSAGES[1:], max_tokens=7, share_key="b"),
    Row("Who?", PASSAGES, max_tokens=3),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterRef, AdapterRef]:
    folder = tmp_path_factory.mktemp("lora")
    return (
        make_lora(model, folder / "one", seed=1),
        make_lora(model, folder / "two", seed=2, rank=8, targets=("q_proj", "down_proj"), use_rslora=True),
    )


@pytest.fixture
def rows() -> Sequence[Row]:
    return ROWS


class TestContract(EngineContract):
    """The causal engine behind the seam."""


def test_it_says_what_plain_generate_says(engine: CausalEngine, model: Path, adapters: Sequence[AdapterRef]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    for adapter in (None, *adapters):
        plain = AutoModelForCausalLM.from_pretrained(model)
        if adapter:
            plain.load_adapter(str(adapter.folder))
        prompt = pack(ROWS[0], tokenizer, context=512)
        ids = torch.tensor([prompt.token_ids])  # [1, T]
        out = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)  # [1, T+n]
        (done,) = ask(engine, [replace(ROWS[0], adapter=adapter)])
        expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert done.answer == expected.strip()


def test_tokens_come_one_by_one_and_stop_at_max_tokens(engine: CausalEngine) -> None:
    heard = Heard()
    engine.submit(ROWS[0], heard)
    done = heard.done()
    assert done.finish_reason == "length"
    assert done.completion_tokens == 12
    assert done.prompt_tokens > 50
    assert len([e for e in heard.events if isinstance(e, Token)]) > 3
    assert 0 < done.confidence < 1


def test_passages_that_do_not_fit_are_named(engine: CausalEngine) -> None:
    (done,) = ask(engine, [replace(ROWS[0], passages=(PASSAGES[0], Passage("long " * 600), PASSAGES[1]))])
    assert done.dropped == (1,)
    (none_fit,) = ask(engine, [replace(ROWS[0], passages=(Passage("long " * 600),))])
    assert (none_fit.abstained, none_fit.dropped, none_fit.completion_tokens) == (True, (0,), 0)


def test_a_question_that_does_not_fit_is_refused(engine: CausalEngine) -> None:
    with pytest.raises(RequestTooLong):
        engine.submit(replace(ROWS[0], question="why " * 25_000), Heard())


def test_without_grounding_it_answers_from_the_conversation_itself(engine: CausalEngine) -> None:
    row = replace(ROWS[0], passages=(), grounded=False, template=PromptTemplate(system="Be brief."))
    told = replace(row, history=(Turn("Who are you?", "A reader of reports."),))
    first, second = ask(engine, [row, told])
    assert not first.abstained
    assert first.spans == ()
    assert second.prompt_tokens > first.prompt_tokens


def test_templates_and_history_stand_in_the_prompt(engine: CausalEngine) -> None:
    plain, asked_before, other_words = ask(
        engine,
        [
            ROWS[0],
            replace(ROWS[0], history=(Turn("In which year?", "In 2019 [1]."),)),
            replace(ROWS[0], template=PromptTemplate(system="Answer.")),
        ],
    )
    assert other_words.prompt_tokens < plain.prompt_tokens < asked_before.prompt_tokens
    (crowded,) = ask(engine, [replace(ROWS[0], history=(Turn("why " * 500, "so"), Turn("Who?", "Staff.")))])
    assert crowded.dropped_turns == 1


def test_an_unloaded_adapter_comes_back_when_asked_for(engine: CausalEngine, adapters: Sequence[AdapterRef]) -> None:
    (before,) = ask(engine, [replace(ROWS[0], adapter=adapters[0])])
    assert adapters[0].key in engine.adapter_memory().resident
    engine.unload(adapters[0])
    ask(engine, ROWS[:1])  # the row that used it has given it back by now
    assert engine.adapter_memory().resident == {}
    (after,) = ask(engine, [replace(ROWS[0], adapter=adapters[0])])
    assert after.answer == before.answer


def test_a_slow_disk_holds_up_only_the_row_that_waits_for_it(
    engine: CausalEngine, adapters: Sequence[AdapterRef], tmp_path: Path
) -> None:
    weights = tmp_path / ADAPTER_WEIGHTS
    os.mkfifo(weights)  # whoever reads it waits until somebody writes
    shutil.copy(adapters[0].folder / ADAPTER_CONFIG, tmp_path)
    slow = AdapterRef(adapters[0].sha256, tmp_path)
    waiting, cancelled = Heard(), Heard()
    engine.submit(replace(ROWS[0], adapter=slow), waiting)
    submission = engine.submit(replace(ROWS[0], adapter=slow), cancelled)
    assert all(done.completion_tokens for done in ask(engine, ROWS))
    assert slow.key in engine.adapter_memory().loading
    submission.cancel()
    content = (adapters[0].folder / ADAPTER_WEIGHTS).read_bytes()
    while not waiting.events:  # its header is read first, then the whole
        with contextlib.suppress(OSError):  # nobody reads at the moment
            pipe = os.open(weights, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(pipe, True)
            with os.fdopen(pipe, "wb") as file:
                file.write(content)
        time.sleep(0.01)
    waiting.end()  # a pipe may be cut into pieces, so whether the weights arrive whole is left open
    assert cancelled.events == []
    assert ask(engine, [replace(ROWS[0], adapter=adapters[0])])[0].completion_tokens


def test_cancel_mid_generation_frees_the_row(engine: CausalEngine) -> None:
    heard, first = Heard(), threading.Event()

    def deliver(event: Event) -> None:
        heard(event)
        first.set()

    endless = replace(ROWS[0], max_tokens=250)
    submission = engine.submit(endless, deliver)
    assert first.wait(PATIENCE_S)
    submission.cancel()
    ask(engine, ROWS[:1])  # the engine has gone on to the next batch
    assert len(heard.events) < 100


def test_a_batch_stays_within_the_models_positions(engine: CausalEngine) -> None:
    long_prompt = replace(ROWS[0], passages=(Passage("Staff have thirty days. " * 20),), max_tokens=4)
    long_answer = replace(ROWS[0], max_tokens=200)
    alone = [ask(engine, [row])[0] for row in (long_prompt, long_answer)]
    heard = [Heard(), Heard()]
    with held(engine, ROWS[2]):
        engine.submit(long_prompt, heard[0])
        engine.submit(long_answer, heard[1])
    assert [h.done().answer for h in heard] == [d.answer for d in alone]


def test_a_row_that_joins_late_is_answered_beside_a_long_one(engine: CausalEngine) -> None:
    long, short, order = Heard(), Heard(), []
    started = threading.Event()

    def deliver(event: Event) -> None:
        long(event)
        started.set()
        if not isinstance(event, Token):
            order.append("long")

    submission = engine.submit(replace(ROWS[0], max_tokens=250), deliver)
    assert started.wait(PATIENCE_S)
    engine.submit(ROWS[2], lambda event: (short(event), order.append("short"))[0])
    short.done()
    assert "long" not in order
    submission.cancel()


def test_a_long_prompt_is_read_in_pieces_and_may_be_cancelled_between_them(model: Path) -> None:
    engine = CausalEngine(model, prefill_tokens=8)
    engine.load()
    running, heard = Heard(), Heard()
    cancelled = threading.Event()

    def deliver(event: Event) -> None:
        running(event)
        if len(running.events) == 3:  # in the middle of the other's prompt: more than 100 tokens, 8 a step
            submission.cancel()
            cancelled.set()

    with held(engine, ROWS[2]):
        engine.submit(replace(ROWS[0], passages=PASSAGES[1:], max_tokens=30), deliver)
        submission = engine.submit(replace(ROWS[0], share_key="z"), heard)
    assert running.done().completion_tokens == 30
    assert cancelled.is_set()
    assert heard.events == []
    engine.close()


def test_rows_that_come_together_are_read_together(model: Path) -> None:
    engine = CausalEngine(model, prefill_tokens=32)
    engine.load()
    ask(engine, ROWS[:1])  # from then on the engine knows how much it reads in a second
    before = engine.status()
    rows = [replace(ROWS[0], share_key=str(number), max_tokens=20) for number in range(12)]
    with held(engine, replace(ROWS[2], max_tokens=1)):
        heard = [Heard() for _ in rows]
        for row, each in zip(rows, heard, strict=True):
            engine.submit(row, each)
    prompts = sum(each.done().prompt_tokens for each in heard)
    assert engine.status().steps - before.steps < 20 + prompts // 32, "one after the other it takes more"
    engine.close()


def test_rows_wait_for_memory_and_one_that_never_fits_is_refused(model: Path) -> None:
    engine = CausalEngine(model, kv_budget_bytes=300 * 2 * 2 * 2 * 16 * 4)  # 300 tokens: one row at a time
    engine.load()
    assert all(done.completion_tokens for done in ask(engine, ROWS))
    with pytest.raises(RequestTooLong, match="memory"):
        engine.submit(replace(ROWS[0], max_tokens=200), Heard())
    engine.close()


def test_a_seed_draws_the_same_tokens_in_any_batch(engine: CausalEngine) -> None:
    drawn = replace(ROWS[0], temperature=2.0, seed=7)
    (alone,) = ask(engine, [drawn])
    together = ask(engine, [ROWS[1], drawn, replace(drawn, seed=8), replace(drawn, top_p=1e-6), ROWS[0]])
    assert together[1].answer == alone.answer != together[2].answer
    assert together[3].answer == together[4].answer  # only the likeliest token is left


def test_a_stop_text_ends_the_answer(engine: CausalEngine) -> None:
    (whole,) = ask(engine, ROWS[:1])
    stop = whole.answer[4:6]
    heard = Heard()
    engine.submit(replace(ROWS[0], stop=("never said", stop)), heard)
    done = heard.done()
    assert done.answer == heard.text() == whole.answer[: whole.answer.index(stop)].strip()
    assert done.finish_reason == "stop"


def test_an_engine_that_cannot_go_on_says_so(model: Path) -> None:
    engine = CausalEngine(model)
    engine.load()
    assert engine.failure is None
    heard, waiting = Heard(), Heard()
    with held(engine, ROWS[0]):
        engine.submit(ROWS[1], heard)
        engine.submit(ROWS[2], waiting)
        network = engine._base.model  # type: ignore[union-attr]
        del network.lm_head  # what a broken device does to every step
    for h in (heard, waiting):
        assert isinstance(h.end(), Failed)
    engine.close()
    assert engine.failure is not None
    with pytest.raises(ModelUnavailable, match="restart"):
        engine.submit(ROWS[0], Heard())


def test_too_many_waiting_rows_are_refused_those_of_a_greedy_share_key_first(model: Path) -> None:
    engine = CausalEngine(model, max_waiting=2)
    engine.load()
    heard = Heard()
    with held(engine, ROWS[0]):
        submission = engine.submit(ROWS[1], Heard())
        with pytest.raises(QueueFull):
            engine.submit(ROWS[1], Heard())
        engine.submit(replace(ROWS[1], share_key="other"), Heard())
        with pytest.raises(QueueFull):
            engine.submit(replace(ROWS[1], share_key="late"), Heard())
        submission.cancel()  # makes room at once
        engine.submit(ROWS[1], heard)
    heard.done()
    engine.close()


def test_evicted_adapters_come_back(model: Path, adapters: Sequence[AdapterRef]) -> None:
    budget = max(tensor_bytes(a.folder / ADAPTER_WEIGHTS, 4) for a in adapters)  # room for one at a time
    engine = CausalEngine(model, adapter_budget_bytes=budget)
    engine.load()
    rows = [replace(ROWS[0], adapter=a) for a in (*adapters, None)]
    first = [ask(engine, [row])[0].answer for row in rows]
    assert set(engine.adapter_memory().resident) == {adapters[1].key}
    assert [ask(engine, [row])[0].answer for row in rows] == first
    assert [d.answer for d in ask(engine, rows)] == first
    engine.close()


def test_a_failing_batch_fails_its_rows_and_the_engine_lives_on(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mismatched"
    shutil.copytree(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["zzz"])  # an id that the embedding does not have
    tokenizer.save_pretrained(folder)
    engine = CausalEngine(folder)
    engine.load()
    heard, other = Heard(), Heard()
    engine.submit(replace(ROWS[0], question="zzz"), heard)
    end = heard.end()
    assert isinstance(end, Failed)
    assert isinstance(end.error, AdapterError)
    engine.submit(ROWS[1], other)
    assert other.done().completion_tokens > 0
    engine.close()


def test_scores_that_are_not_finite_fail_only_their_row(engine: CausalEngine, model: Path, tmp_path: Path) -> None:
    overflowing = make_lora(model, tmp_path / "huge", scale=1e38)  # finite on disk, infinite in the scores
    with pytest.raises(InvalidAdapter) as refusal:
        engine.check(overflowing.folder)
    assert refusal.value.reason == "not_finite"
    heard, other = Heard(), Heard()
    with held(engine, ROWS[0]):
        engine.submit(replace(ROWS[0], adapter=overflowing), heard)
        engine.submit(ROWS[1], other)
    end = heard.end()
    assert isinstance(getattr(end, "error", None), AdapterError)
    assert other.done().completion_tokens > 0


def test_a_model_without_chat_template_serves(tmp_path: Path) -> None:
    engine = CausalEngine(make_tiny_llama(tmp_path / "plain", chat=False), dtype="bfloat16")
    engine.load()
    assert ask(engine, ROWS[:1])[0].completion_tokens > 0
    engine.close()


def test_the_fingerprint_names_the_weights(tmp_path: Path, engine: CausalEngine) -> None:
    same, other = (
        CausalEngine(make_tiny_llama(tmp_path / "same")),
        CausalEngine(make_tiny_llama(tmp_path / "b", seed=1)),
    )
    for e in (same, other):
        e.load()
        e.close()
    assert same.fingerprint == engine.fingerprint
    assert other.fingerprint != engine.fingerprint


class TestLoading:
    """What cannot be loaded says what to do."""

    def _refusal(self, source: str | Path, **options: str) -> str:
        engine = CausalEngine(source, **options)  # type: ignore[arg-type]
        with pytest.raises(ModelUnavailable) as refusal:
            engine.load()
        with pytest.raises(ModelUnavailable):
            engine.submit(ROWS[0], Heard())
        engine.close()
        return str(refusal.value)

    def test_missing_folder(self, tmp_path: Path) -> None:
        assert "no folder" in self._refusal(tmp_path / "nowhere")
        assert "no folder" in self._refusal("./nowhere")

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [("tokenizer*", "no tokenizer"), ("*.safetensors", "no .safetensors"), ("config.json", "no config.json")],
    )
    def test_missing_files(self, model: Path, tmp_path: Path, pattern: str, message: str) -> None:
        folder = tmp_path / "part"
        shutil.copytree(model, folder)
        for path in folder.glob(pattern):
            path.unlink()
        assert message in self._refusal(folder)

    def test_damaged_weights(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "cut"
        shutil.copytree(model, folder)
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
        assert "cannot be loaded" in self._refusal(folder)

    def test_missing_weights(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "headless"
        shutil.copytree(model, folder)
        tensors = {k: v for k, v in load_file(model / "model.safetensors").items() if not k.startswith("lm_head")}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert "lacks 1 weights" in self._refusal(folder)

    def test_an_adapter_is_not_a_model(self, adapters: Sequence[AdapterRef]) -> None:
        assert "holds an adapter" in self._refusal(adapters[0].folder)

    def test_unusable_chat_template(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "template"
        shutil.copytree(model, folder)
        (folder / "chat_template.jinja").write_text("{% for %}")
        assert "chat template" in self._refusal(folder)

    def test_dtype_and_device(self, model: Path) -> None:
        assert "dtype" in self._refusal(model, dtype="int3")
        assert "device" in self._refusal(model, device="nonsense")


class TestCheck:
    """Adapters that cannot be served are refused with a stable reason."""

    def _reason(self, engine: CausalEngine, folder: Path) -> str:
        with pytest.raises(InvalidAdapter) as refusal:
            engine.check(folder)
        assert str(refusal.value)
        return refusal.value.reason

    def test_another_bases_shapes(self, engine: CausalEngine, tmp_path: Path) -> None:
        wide = make_tiny_llama(tmp_path / "wide", hidden=96)
        assert self._reason(engine, make_lora(wide, tmp_path / "lora").folder) == "shape"

    def test_another_bases_modules(self, engine: CausalEngine, adapters: Sequence[AdapterRef], tmp_path: Path) -> None:
        shutil.copytree(adapters[0].folder, tmp_path / "lora")
        path = tmp_path / "lora" / ADAPTER_WEIGHTS
        save_file({k.replace("layers.1", "layers.7"): v for k, v in load_file(path).items()}, path)
        assert self._reason(engine, tmp_path / "lora") == "target"

    def test_not_finite(self, engine: CausalEngine, adapters: Sequence[AdapterRef], tmp_path: Path) -> None:
        shutil.copytree(adapters[0].folder, tmp_path / "lora")
        path = tmp_path / "lora" / ADAPTER_WEIGHTS
        tensors = load_file(path)
        next(iter(tensors.values()))[0, 0] = float("nan")
        save_file(tensors, path)
        assert self._reason(engine, tmp_path / "lora") == "not_finite"

    def test_no_effect(self, engine: CausalEngine, model: Path, tmp_path: Path) -> None:
        assert self._reason(engine, make_lora(model, tmp_path / "zero", scale=0.0).folder) == "no_effect"
        assert engine.adapter_memory().resident == {}

    @pytest.mark.parametrize(
        "field",
        [
            {"bias": "all"},
            {"peft_type": "OFT"},
            {"lora_bias": True},
            {"alora_invocation_tokens": [1]},
            {"trainable_token_indices": [1]},
        ],
    )
    def test_variants(
        self, engine: CausalEngine, adapters: Sequence[AdapterRef], tmp_path: Path, field: dict[str, object]
    ) -> None:
        shutil.copytree(adapters[0].folder, tmp_path / "lora")
        path = tmp_path / "lora" / ADAPTER_CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **field}))
        assert self._reason(engine, tmp_path / "lora") == "config"

    def test_modules_trained_whole(self, engine: CausalEngine, model: Path, tmp_path: Path) -> None:
        assert self._reason(engine, make_lora(model, tmp_path / "lora", modules_to_save=["lm_head"]).folder) == "target"

    def test_pickled_weights(self, engine: CausalEngine, adapters: Sequence[AdapterRef], tmp_path: Path) -> None:
        shutil.copytree(adapters[0].folder, tmp_path / "lora")
        torch.save({}, tmp_path / "lora" / ADAPTER_WEIGHTS)
        assert self._reason(engine, tmp_path / "lora") == "format"

    def test_checking_changes_no_answer(self, engine: CausalEngine, adapters: Sequence[AdapterRef]) -> None:
        rows = [replace(ROWS[0], adapter=a) for a in (None, adapters[0])]
        before = [d.answer for d in ask(engine, rows)]
        assert engine.check(adapters[1].folder).sha256 == sha256_of(adapters[1].folder / ADAPTER_WEIGHTS)
        assert [d.answer for d in ask(engine, rows)] == before


class TestAnswerText:
    """One row's tokens, by a tokenizer that reads ids as bytes."""

    class Bytes:
        def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
            return bytes(token_ids).decode("utf-8", "replace")

    EOS = 0
    PROMPT = Prompt("", (1, 2, 3), shown=(0, 1), dropped=(2,))
    ROW = Row("Q", (*PASSAGES, Passage("dropped")))

    def _say(self, text: str, limit: int = 999, log_probability: float = -0.1) -> tuple[AnswerText, list[str]]:
        answer = AnswerText(self.Bytes(), limit, {self.EOS}, self.PROMPT)
        shown = []
        for token in [*text.encode(), self.EOS]:
            if answer.finish_reason is None:
                shown.append(answer.push(token, log_probability))
        return answer, shown

    def test_characters_are_never_cut(self) -> None:
        answer, shown = self._say("Größe 12 € 🙂 [1].")
        assert "".join(shown) == "Größe 12 € 🙂 [1]." == answer.done(self.ROW, self.PROMPT).answer
        assert not any("\ufffd" in piece for piece in shown)
        cut, _ = self._say("€", limit=2)
        assert cut.done(self.ROW, self.PROMPT).answer == "\ufffd"

    def test_detokenizer_flushes_once(self) -> None:
        text = Detokenizer(self.Bytes())
        assert [text.push(t) for t in "é".encode()] == ["", "é"]
        assert text.flush() == ""

    def test_outer_white_space_is_not_the_answers(self) -> None:
        answer, shown = self._say("\n  twelve  million \n")
        assert "".join(shown) == "twelve  million" == answer.done(self.ROW, self.PROMPT).answer

    @pytest.mark.parametrize("text", [ABSTENTION, f" {ABSTENTION[:-1].upper()}\n", "", "  "])
    def test_abstentions_show_nothing(self, text: str) -> None:
        answer, shown = self._say(text)
        done = answer.done(self.ROW, self.PROMPT)
        assert "".join(shown) == ""
        assert (done.answer, done.abstained, done.spans) == ("", True, ())

    @pytest.mark.parametrize("text", ["I cannot say", "I", "I cannot answer this from the documents. But [1] may."])
    def test_what_begins_like_an_abstention_is_shown_in_the_end(self, text: str) -> None:
        answer, shown = self._say(text)
        done = answer.done(self.ROW, self.PROMPT)
        assert "".join(shown) == text == done.answer
        assert not done.abstained

    def test_citations_become_whole_passages(self) -> None:
        answer, shown = self._say("Thirty days [2], and [1], not [3].")
        done = answer.done(self.ROW, self.PROMPT)
        assert "".join(shown) == "Thirty days [2], and [1], not." == done.answer
        assert done.unknown_marks == 1
        assert [(s.passage, s.start, s.end) for s in done.spans] == [
            (1, 0, len(PASSAGES[1].text)),
            (0, 0, len(PASSAGES[0].text)),
        ]
        assert done.dropped == (2,)
        assert done.prompt_tokens == 3

    def test_confidence_is_the_mean_probability_of_its_tokens(self) -> None:
        answer, _ = self._say("twelve", log_probability=-0.5)
        assert answer.confidence == pytest.approx(0.6065, abs=1e-3)
        assert answer.done(replace(self.ROW, min_confidence=0.61), self.PROMPT).abstained
        assert not answer.done(replace(self.ROW, min_confidence=0.60), self.PROMPT).abstained

    def test_text_that_may_begin_a_stop_text_is_held_back(self) -> None:
        answer = AnswerText(self.Bytes(), 99, {self.EOS}, self.PROMPT, stop=("END",))
        shown = [answer.push(token, -0.1) for token in b"twelve EN, not END"]
        assert "".join(shown) == "twelve EN, not" == answer.done(self.ROW, self.PROMPT).answer
        assert answer.finish_reason == "stop"
        assert shown[8] == ""

    def test_the_limit_ends_it(self) -> None:
        answer, shown = self._say("twelve", limit=3)
        done = answer.done(self.ROW, self.PROMPT)
        assert (done.answer, done.finish_reason, done.completion_tokens) == ("twe", "length", 3)
        assert "".join(shown) == "twe"
