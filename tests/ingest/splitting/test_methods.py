"""What holds for every method: chunks in order, offsets exact, everything covered, sizes kept, the same each time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import CompletionFailed, CompletionTooLong, SplitUnavailable
from ingest.parsing.document import Heading, Page, ParsedDocument
from ingest.splitting import METHODS, Chunk, Method, SplitConfig, SplitResult, split
from tests.ingest.hashing_embedder import HashingEmbedder

EMBEDDER = HashingEmbedder(16)
MEDIA_TYPES = ["text/plain", "text/markdown", "text/x-python", "text/x-c", "text/x-javascript", "text/x-yaml"]
LINES = [
    "# Heading", "## Part", "A sentence. And one more.", "word " * 12, "x" * 50, "", "", " ", "| a | b |", "| 1 | 2 |",
    "a | b | c", "```python", "```", "def f(x):", "    return {", "class A:", "    @property", "}", "{", "if (x) {",
    '"""', "/* c", "*/", "// note", "`", "'", "- item", "Größe 数据。 第二句。", "\t\tdeep", "end",
    "\r", "#include <x>",
]  # fmt: skip


def scripted(answers: Sequence[str]) -> object:
    """A model that says the answers in turn, over and over; "fail" and "long" are raised."""
    said = 0

    def complete(task: str, sources: Sequence[str], max_tokens: int) -> str:
        nonlocal said
        said += 1
        answer = answers[said % len(answers)] if answers else "[1]"
        if answer == "fail":
            raise CompletionFailed("no answer")
        if answer == "long":
            raise CompletionTooLong("too long")
        return answer

    return complete


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    lined = st.lists(st.sampled_from(LINES), max_size=40).map("\n".join)
    text = draw(lined | st.text(st.sampled_from("abc .!\n\r \t1-#。|`{}()\"'"), max_size=300) | st.text(max_size=60))
    places = draw(st.lists(st.integers(0, max(len(text) - 1, 0)), max_size=6, unique=True)) if text else []
    headings = tuple(Heading(place, draw(st.integers(1, 4)), f"h{place}") for place in sorted(places))
    cut = draw(st.integers(0, len(text)))
    pages = (Page(1, 0, cut), Page(2, cut, len(text))) if draw(st.booleans()) else ()
    return ParsedDocument(text, draw(st.sampled_from(MEDIA_TYPES)), pages=pages, headings=headings)


@st.composite
def configs(draw: st.DrawFn, method: Method) -> SplitConfig:
    size = draw(st.integers(1, 60) | st.integers(60, 300))
    return SplitConfig(size, draw(st.integers(0, size - 1)), draw(st.integers(0, size)), method)


SAID = ["[1]", "[1] [2]", "[1, 3]", "1-2, 3-4", "nonsense", "", "fail", "long"]
ANSWERS = st.lists(st.sampled_from(SAID), max_size=4)


def chunks_of(parsed: ParsedDocument, config: SplitConfig, answers: Sequence[str]) -> SplitResult:
    done = split(parsed, config, EMBEDDER.encode, scripted(answers))  # type: ignore[arg-type]
    assert done is not None
    return done


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_character_is_in_a_chunk_and_every_chunk_fits(method: Method, data: st.DataObject) -> None:
    parsed, config = data.draw(documents()), data.draw(configs(method))
    answers = data.draw(ANSWERS)
    done = chunks_of(parsed, config, answers)
    covered: set[int] = set()
    previous: Chunk | None = None
    for chunk in done.chunks:
        assert 0 <= chunk.start < chunk.end <= len(parsed.text)
        assert chunk.end - chunk.start <= config.size
        assert parsed.text[chunk.start : chunk.end].strip() == parsed.text[chunk.start : chunk.end]
        if previous:
            assert previous.start < chunk.start
            assert previous.end < chunk.end
            assert previous.end - chunk.start <= config.overlap
        if parsed.pages:
            assert chunk.page == (1 if chunk.start < parsed.pages[1].start else 2)
        covered.update(range(chunk.start, chunk.end))
        previous = chunk
    missed = [i for i, character in enumerate(parsed.text) if i not in covered and not character.isspace()]
    assert missed == []
    assert chunks_of(parsed, config, answers) == done


@pytest.mark.parametrize("method", METHODS)
def test_a_blank_document_has_no_chunks(method: Method) -> None:
    assert chunks_of(ParsedDocument(" \n\n ", "text/plain"), SplitConfig(method=method), []).chunks == []


@pytest.mark.parametrize("method", METHODS)
def test_chunks_know_their_section(method: Method) -> None:
    text = "Leave\n\n" + "Holiday is granted. " * 60 + "\n\nPay\n\n" + "Salaries are paid monthly. " * 60
    headings = (Heading(0, 1, "Leave"), Heading(text.index("Pay"), 1, "Pay"))
    chunks = chunks_of(ParsedDocument(text, "text/markdown", headings=headings), SplitConfig(method=method), []).chunks
    assert {chunks[0].section, chunks[-1].section} == {"Leave", "Pay"}


@pytest.mark.parametrize(("method", "words"), [("semantic", "embedding model"), ("agentic", "LOREBASE_MODEL")])
def test_a_method_whose_model_is_not_there_says_what_to_do(method: Method, words: str) -> None:
    with pytest.raises(SplitUnavailable, match=words):
        split(ParsedDocument("Some text.", "text/plain"), SplitConfig(method=method))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="character, recursive, document, semantic, agentic"):
        SplitConfig(method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["semantic", "agentic"])
def test_a_method_that_asks_a_model_stops_when_asked_to(method: Method) -> None:
    asked: list[int] = []

    def encode_never(texts: Sequence[str]) -> object:
        asked.append(len(texts))
        raise AssertionError("asked a model after the stop")

    parsed = ParsedDocument("A sentence goes here. " * 50, "text/plain")
    done = split(
        parsed,
        SplitConfig(method=method),
        encode_never,
        lambda *_: str(encode_never([])),
        lambda: True,  # type: ignore[arg-type]
    )
    assert done is None
    assert asked == []
