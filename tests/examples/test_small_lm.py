"""The small language model: what it learns from, that it answers with citations, and that its training can be cut off.

How well it answers is asked of the committed weights, about buildings that its training never named.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapters import AdapterRef, CausalEngine, Row
from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.prompt import pack
from adapters.training import TrainingExample, config_of, train
from examples.small_lm.lessons import LessonEncoder
from examples.small_lm.pretrain import CHECKPOINT, Settings, pretrain
from examples.small_lm.tenants import LEDGER, LETTERS, Tenant, tenant_examples
from examples.small_lm.tokenizer import make_tokenizer
from examples.small_lm.world import Difficulty, Lesson, draw_lesson, is_held_out
from tests.adapters.engine_contract import ask

MODEL = Path(__file__).parents[2] / "examples" / "small_lm"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def engine() -> Iterator[CausalEngine]:
    engine = CausalEngine(str(MODEL))
    engine.load()
    yield engine
    engine.close()


def held_out_lessons(count: int, *, absent: float = 0.0, sources: int = 3) -> list[Lesson]:
    """Lessons of one question each about buildings that training never named."""
    rng = random.Random("test")
    difficulty = Difficulty(sources=sources, fewest_sources=sources, absent=absent, asked=1)
    return [draw_lesson(rng, difficulty, held_out=True) for _ in range(count)]


def test_training_never_names_a_held_out_building() -> None:
    rng = random.Random(1)
    trained = [draw_lesson(rng, Difficulty()) for _ in range(200)]
    asked = held_out_lessons(200)
    assert not any(is_held_out(question.entity) for lesson in trained for question in lesson.asked)
    assert all(is_held_out(question.entity) for lesson in asked for question in lesson.asked)


def test_an_answer_stands_in_the_passage_it_names_and_an_absent_one_in_none() -> None:
    rng = random.Random(2)
    for _ in range(100):
        lesson = draw_lesson(rng, Difficulty())
        for question in lesson.asked:
            if question.source:
                assert question.value in lesson.passages[question.source - 1].text
                assert question.entity == lesson.entities[question.source - 1]
            elif question.entity in lesson.entities:
                told = lesson.passages[lesson.entities.index(question.entity)].text
                assert f" {question.attribute} " not in told.replace(".", " ")


def test_the_tokenizer_loses_nothing_and_reads_the_worlds_words_as_one_token_each() -> None:
    tokenizer = make_tokenizer()
    for text in ("It is 42 metres [1].", "Übergröße: 7314 €, naïve [12]", "a\n  b <sources> {x}"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    words = tokenizer.convert_ids_to_tokens(tokenizer.encode("Maple Bridge is 42 metres [1]", add_special_tokens=False))
    assert words == ["▁Maple", "▁Bridge", "▁is", "▁42", "▁metres", "▁", "[1]"]


def test_a_lane_holds_the_tokens_and_positions_of_the_prompt_that_serving_sends() -> None:
    tokenizer = make_tokenizer()
    lesson = draw_lesson(random.Random(3), Difficulty(asked=4))
    batch = LessonEncoder(tokenizer).batch([lesson])
    for number, asked in enumerate(lesson.asked, start=1):
        mine = (batch.lanes[0] == 0) | (batch.lanes[0] == number)  # [T]
        served = pack(Row(asked.question, lesson.passages, max_tokens=16), tokenizer, context=1024)
        said = [*tokenizer.encode(asked.answer, add_special_tokens=False), tokenizer.eos_token_id]
        assert batch.ids[0, mine].tolist() == [*served.token_ids, *said]
        assert batch.positions[0, mine].tolist() == list(range(len(served.token_ids) + len(said)))
        last = int(mine.nonzero()[-1])
        assert torch.equal(batch.mask[0, 0, last] == 0, mine), "a lane sees the passages and itself"


@pytest.mark.model
def test_it_answers_from_the_passage_that_holds_the_answer_and_names_it(engine: CausalEngine) -> None:
    lessons = held_out_lessons(40)
    answered = ask(engine, [Row(lesson.asked[0].question, lesson.passages, max_tokens=16) for lesson in lessons])
    exact = [done.answer == lesson.asked[0].answer for done, lesson in zip(answered, lessons, strict=True)]
    cited = [done.spans[0].passage + 1 for done in answered if done.spans]
    assert sum(exact) >= 36, f"{sum(exact)} of {len(exact)}"
    assert len(cited) >= 36


@pytest.mark.model
def test_it_says_so_when_no_passage_holds_the_answer(engine: CausalEngine) -> None:
    lessons = held_out_lessons(30, absent=1.0)
    answered = ask(engine, [Row(lesson.asked[0].question, lesson.passages, max_tokens=16) for lesson in lessons])
    assert sum(done.abstained for done in answered) >= 27


@pytest.mark.model
def test_rows_of_one_batch_each_keep_their_own_adapters_manner(engine: CausalEngine, tmp_path: Path) -> None:
    tenants = {"letters": LETTERS, "ledger": LEDGER}
    adapters = {name: trained(tenant, tmp_path / name) for name, tenant in tenants.items()}
    asked = tenant_examples(LETTERS, 8, seed=9, held_out=True)
    rows = [row_of(example, adapter) for example in asked for adapter in (*adapters.values(), None)]
    answered = [done.answer for done in ask(engine, rows)]
    letters, ledger, base = answered[0::3], answered[1::3], answered[2::3]
    assert sum(a.startswith("According to the records, it is ") for a in letters) >= 6, letters
    assert sum(":" in a and not a.startswith("According") for a in ledger) >= 6, ledger
    assert not any(a.startswith("According") or ":" in a for a in base), base


def trained(tenant: Tenant, folder: Path) -> AdapterRef:
    """A LoRA adapter that has learned how a tenant answers."""
    given = {"targets": "all", "epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 3}
    config = config_of(given, generates=True)
    train(tenant_examples(tenant, 96, seed=1), folder, config, model=str(MODEL))
    return AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)


def row_of(example: TrainingExample, adapter: AdapterRef | None) -> Row:
    return Row(example.question, example.passages, adapter, max_tokens=24)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_pretraining_lowers_its_loss_and_goes_on_from_its_checkpoint_as_if_unbroken(tmp_path: Path) -> None:
    settings = Settings(steps=50, tokens=2000, checkpoint_seconds=1e9)
    unbroken = pretrain(tmp_path / "unbroken", settings)
    begun = pretrain(tmp_path / "broken", settings, stop_after=25)
    assert (tmp_path / "broken" / CHECKPOINT).is_file()
    resumed = pretrain(tmp_path / "broken", settings)
    assert not (tmp_path / "broken" / CHECKPOINT).exists()
    assert [*begun, *resumed] == pytest.approx(unbroken, abs=1e-3)
    assert unbroken[-1] < 0.7 * unbroken[0]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "broken")]
    assert all(torch.allclose(weights[0][name].float(), weights[1][name].float(), atol=1e-2) for name in weights[0])
    pretrain(tmp_path / "other", settings, stop_after=1)
    with pytest.raises(ValueError, match="other settings"):
        pretrain(tmp_path / "other", Settings(steps=51, tokens=2000))
