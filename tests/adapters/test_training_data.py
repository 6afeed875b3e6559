"""Training sets: what is read, what is refused with line and field, what is left out with a warning."""

from __future__ import annotations

import json

import pytest

from adapters.errors import InvalidTrainingData
from adapters.template import Passage
from adapters.training import TrainingExample, check_examples, dump_examples, load_examples, parse_examples
from adapters.training.data import find_answer
from adapters.training.run import reading_questions


def towns(count: int = 30) -> list[TrainingExample]:
    return [
        TrainingExample(
            f"Who leads the town of number {n}?",
            (f"Ms Tell{n}",),
            (Passage(f"Town {n} is led by Ms Tell{n}."),),
            str(n),
        )
        for n in range(count)
    ]


def lines(*examples: object) -> bytes:
    return "\n".join(each if isinstance(each, str) else json.dumps(each) for each in examples).encode()


def test_lines_are_read_with_passages_answers_and_what_else_they_say() -> None:
    first, second, third = parse_examples(
        "set.jsonl",
        lines(
            {"question": "Who?", "answer": "Ann", "passage": "Ann came.", "document": "d1"},
            {"question": "Why?", "unanswerable": True, "passages": [{"title": "T", "text": "Nobody knows."}, "x"]},
            {"question": "When?", "answers": ["now", "today", "now"], "rejected": "never", "rating": -1},
        ),
    )
    assert first == TrainingExample("Who?", ("Ann",), (Passage("Ann came.", "d1"),), "d1")
    assert second.passages == (Passage("Nobody knows.", "T"), Passage("x", ""))
    assert (third.answers, third.rejected, third.rating) == (("now", "today"), "never", -1)


def test_a_squad_file_keeps_where_the_answer_stands() -> None:
    qas = [{"id": 1, "question": "Who?", "answers": [{"text": "Ann", "answer_start": 9}]}]
    content = {"data": [{"title": "T", "paragraphs": [{"context": "Ann met: Ann.", "qas": qas}]}]}
    (example,) = parse_examples("set.json", json.dumps(content).encode())
    assert example.start == 9
    assert reading_questions([example])[0].answers[0].start == 9


def test_what_is_written_is_read_back_the_same() -> None:
    examples = [*towns(2), TrainingExample("Why?", rejected="so", rating=1), TrainingExample("A", ("b",), start=-1)]
    assert load_examples(dump_examples(examples)) == examples


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no example"),
        (b"\xff\xfe", "UTF-8"),
        (lines({"question": "Q", "answer": "a"}, "{"), r"line 2: not a JSON object"),
        (lines("[]"), "line 1: must be a JSON object"),
        (lines({"question": " ", "answer": "a"}), "line 1, field 'question'"),
        (lines({"question": "Q"}), "line 1, field 'answer': missing"),
        (lines({"question": "Q", "answer": 5}), "line 1, field 'answer'"),
        (lines({"question": "Q", "answer": "a", "anser": "b"}), "field 'anser': not known"),
        (lines({"question": "Q", "answer": "a", "unanswerable": True}), "field 'unanswerable'"),
        (lines({"question": "Q", "answer": "a", "rating": 3}), "field 'rating'"),
        (lines({"question": "Q", "answer": "a", "passages": "p"}), "field 'passages': must be a list"),
        (lines({"question": "Q\0", "answer": "a"}), "NUL"),
        (lines({"question": "Q", "answer": "a", "passage": "b a", "start": 0}), "field 'start'"),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', r"data\[0\].paragraphs\[0\], field 'context'"),
        (b'{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}', r"qas\[0\].answers: must be"),
        (b'{"data": []}', "no question"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_line_and_field(content: bytes, said: str) -> None:
    with pytest.raises(InvalidTrainingData, match=said):
        parse_examples("set.jsonl", content)


def test_a_good_set_is_kept_with_a_word_on_its_size() -> None:
    kept, warnings = check_examples(towns(), quotes=True, english=True)
    assert kept == towns()
    assert warnings == ["Only 30 examples: expect little; a few hundred are better."]


def test_ten_examples_are_refused() -> None:
    with pytest.raises(InvalidTrainingData, match="10 usable examples"):
        check_examples(towns(10))


def test_duplicates_are_left_out_and_told() -> None:
    kept, warnings = check_examples([*towns(), *towns()])
    assert len(kept) == 30
    assert "30 duplicates were left out." in warnings


def test_a_question_with_two_answers_is_told() -> None:
    torn = [*towns(), TrainingExample(towns()[0].question, ("Someone",), towns()[0].passages)]
    assert any("more than once with different answers" in warning for warning in check_examples(torn)[1])


def test_a_set_with_one_answer_is_refused() -> None:
    same = [TrainingExample(f"Question {n}?", ("yes",), (Passage("yes"),)) for n in range(99)]
    with pytest.raises(InvalidTrainingData, match=r"99 of 100 examples have the answer 'yes'"):
        check_examples([*same, *towns(1)])


def test_answers_that_do_not_stand_in_their_passages_are_left_out_or_the_set_is_refused() -> None:
    absent = [TrainingExample(f"What is {n}?", (f"gone {n}",), (Passage("Nothing."),)) for n in range(5)]
    kept, warnings = check_examples([*towns(), *absent], quotes=True)
    assert kept == towns()
    assert any("5 examples were left out: their answers do not stand" in warning for warning in warnings)
    with pytest.raises(InvalidTrainingData, match="The reader quotes"):
        check_examples([*towns(3), *absent], quotes=True)
    assert len(check_examples([*towns(), *absent], quotes=False)[0]) == 35


def test_a_set_in_another_language_is_told() -> None:
    foreign = [TrainingExample(f"Wer leitet Stadt Nummer {n}?", (f"Frau {n}",)) for n in range(30)]
    assert any("look English" in warning for warning in check_examples(foreign, english=True)[1])


def test_objectives_take_only_what_they_can_learn_from() -> None:
    pair = [TrainingExample(f"Question {n}?", (f"good {n}",), rejected=f"bad {n}") for n in range(25)]
    assert len(check_examples([*pair, *towns()], "dpo")[0]) == 25
    with pytest.raises(InvalidTrainingData, match="dpo: it needs"):
        check_examples(towns(), "dpo")
    liked = [TrainingExample(f"Question {n}?", (f"good {n}",), rating=1) for n in range(25)]
    with pytest.raises(InvalidTrainingData, match="All ratings are alike"):
        check_examples(liked, "kto")
    disliked = [TrainingExample(f"Other {n}?", (f"bad {n}",), rating=-1) for n in range(25)]
    assert len(check_examples([*liked, *disliked], "kto")[0]) == 50
    assert len(check_examples([*liked, *disliked], "sft")[0]) == 25, "nobody learns to say what was disliked"


@pytest.mark.parametrize(
    ("passage", "answer", "start"),
    [("Ann met Annabel.", "ann", 0), ("Annabel met Ann.", "Ann", 12), ("Annabel", "Ann", -1), ("12 and 2.", "2", 7)],
)
def test_an_answer_is_found_as_whole_words(passage: str, answer: str, start: int) -> None:
    assert find_answer(passage, answer) == start


def test_the_reader_learns_from_the_passage_that_answers_and_one_that_does_not() -> None:
    passages = (Passage("Nothing here."), Passage("Ann came."), Passage("Nor here."), Passage("Ann again."))
    pairs = reading_questions([TrainingExample("Who?", ("Ann",), passages)])
    assert [(pair.context, bool(pair.answers)) for pair in pairs] == [("Nothing here.", False), ("Ann came.", True)]
