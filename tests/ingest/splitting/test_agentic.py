"""By a language model: what it names is taken where it is a division; where not, the recursive method steps in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ingest.errors import CompletionFailed, CompletionTooLong
from ingest.parsing.document import ParsedDocument
from ingest.splitting import SplitConfig, SplitResult, split
from ingest.splitting.agentic import topic_starts

CONFIG = SplitConfig(2000, minimum=0, method="agentic")
SENTENCES = [f"This is sentence {i} of the whole text." for i in range(1, 31)]
TEXT = " ".join(SENTENCES)


class Model:
    """Answers by a function of how many sources it is shown."""

    def __init__(self, answer: Callable[[int], str]) -> None:
        self.answer = answer
        self.shown: list[Sequence[str]] = []

    def __call__(self, task: str, sources: Sequence[str], max_tokens: int) -> str:
        self.shown.append(sources)
        return self.answer(len(sources))


def run(model: Model, text: str = TEXT, config: SplitConfig = CONFIG) -> SplitResult:
    done = split(ParsedDocument(text, "text/plain"), config, complete=model)
    assert done is not None
    return done


def test_the_topics_that_the_model_names_are_the_chunks() -> None:
    model = Model(lambda _: "[1] [4] [20]")
    done = run(model)
    assert model.shown == [SENTENCES]
    assert [TEXT[c.start : c.end].split(" of")[0] for c in done.chunks] == [
        "This is sentence 1", "This is sentence 4", "This is sentence 20"
    ]  # fmt: skip
    assert done.note is None


def test_a_topic_at_the_end_of_what_is_shown_is_shown_again_with_what_follows() -> None:
    text = " ".join(f"This is sentence {i} of the whole text." for i in range(1, 61))
    model = Model(lambda count: f"[1] [{count - 2}]" if count == 40 else "[1]")
    done = run(model, text)
    assert [len(sources) for sources in model.shown] == [40, 23]
    assert model.shown[1][0] == "This is sentence 38 of the whole text."
    assert done.chunks[-1].start == text.index("This is sentence 38")


@pytest.mark.parametrize("answer", ["", "I cannot answer this.", "In 2019 there were 3 topics.", "[3] [2]", "[1] [99]"])
def test_an_answer_that_is_no_division_leaves_its_part_to_the_recursive_method_and_is_noted(answer: str) -> None:
    done = run(Model(lambda _: answer))
    recursive = split(ParsedDocument(TEXT, "text/plain"), SplitConfig(2000, minimum=0))
    assert recursive is not None
    assert done.chunks == recursive.chunks
    assert done.note is not None
    assert done.note.startswith("1 of 1 parts were split recursively")


def test_a_model_that_fails_again_and_again_is_asked_no_more() -> None:
    def fail(_: int) -> str:
        raise CompletionFailed("busy")

    model = Model(fail)
    done = run(model, TEXT * 30)
    assert len(model.shown) == 3
    assert done.note is not None


def test_a_model_that_can_read_less_is_shown_less() -> None:
    def short(count: int) -> str:
        if count > 15:
            raise CompletionTooLong("too long")
        return "[1]"

    model = Model(short)
    done = run(model, TEXT * 4)
    assert done.note is None
    assert max(len(sources) for sources in model.shown[3:]) <= 15
    assert len(model.shown) < 20


def test_the_number_of_questions_is_bounded() -> None:
    model = Model(lambda count: " ".join(f"[{i}]" for i in range(1, count + 1)))
    run(model, TEXT * 300)
    assert len(model.shown) <= 200


@pytest.mark.parametrize(
    ("answer", "starts"),
    [
        ("[1] [4] [9]", [1, 4, 9]), ("[1, 4, 9].", [1, 4, 9]), ("1, 4, 9", [1, 4, 9]), ("4\n9", [1, 4, 9]),
        ("Topic A: 1-3\nTopic B: 4–8\nTopic C: 9-10", [1, 4, 9]), ("[1]", [1]),
        ("1-3, 5-10", None), ("[1] [1]", None), ("[0] [4]", None), ("[11]", None), ("Pages 1 and 4", None),
        ("[" * 5000, None), ("1 " * 5000 + "x", None),
    ],
)  # fmt: skip
def test_only_what_can_be_nothing_else_is_taken_for_a_division(answer: str, starts: list[int] | None) -> None:
    assert topic_starts(answer, 10) == starts
