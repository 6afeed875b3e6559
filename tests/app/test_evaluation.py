"""The metrics of an evaluation, on small cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from adapters.squad import Answer, Question, read_squad
from app.answer_metrics import (
    Gold,
    Outcome,
    Place,
    abstention,
    bootstrap_interval,
    first_rank,
    holds,
    mean_reciprocal_rank,
    places_of,
    recall_at,
    summarize,
)
from app.evaluation import Options, collection_name, documents_of, read_articles, sample
from app.evaluation_report import Setup, figures, report_table
from app.schemas import PassageResponse
from app.terminal.evaluating import adapter_name, evaluate_command

EXAMPLES = Path(__file__).parents[2] / "examples"
FIGURES = [
    "n", "em", "f1", "recall@1", "recall@5", "recall@20", "mrr", "abstain_precision", "abstain_recall", "p50_ms",
    "p95_ms",
]  # fmt: skip


def passage(document: str | None, start: int, end: int, text: str = "") -> PassageResponse:
    return PassageResponse(
        chunk_id=None, document_id=document, title="", text=text, score=None, page=None, section=None,
        start=start, end=end,
    )  # fmt: skip


def outcome(answer: str, *golds: str, rank: int | None = None, ms: float = 10.0, refused: bool = False) -> Outcome:
    return Outcome(golds, answer, not answer and not refused, ms, rank, refused)


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("blue", 4, [(104, 108)]),  # where the set says
        ("blue", 0, [(104, 108), (113, 117)]),  # a wrong offset: every occurrence
        ("blue", -3, [(104, 108), (113, 117)]),
        ("green", 4, []),  # not in the paragraph at all
        ("", 0, []),
    ],
)
def test_places_are_where_the_answer_truly_stands(text: str, start: int, expected: list[tuple[int, int]]) -> None:
    found = places_of(text, start, "the blue and blue sea", "d", 100)
    assert found == tuple(Place("d", s, e) for s, e in expected)


@pytest.mark.parametrize(
    ("candidate", "held"),
    [
        (passage("d", 0, 10), False),  # ends where the answer starts
        (passage("d", 0, 11), True),
        (passage("d", 12, 13), True),  # inside the answer
        (passage("d", 20, 30), False),  # begins where the answer ends
        (passage("other", 0, 100, "the answer"), False),
        (passage(None, 10, 20), False),
    ],
)
def test_a_passage_holds_an_answer_that_it_overlaps(candidate: PassageResponse, held: bool) -> None:
    assert holds(candidate, Gold("the answer", (Place("d", 10, 20),))) is held


def test_without_places_an_answer_is_matched_by_its_text() -> None:
    assert holds(passage("other", 0, 5, "so it is the answer"), Gold("the answer"))
    assert not holds(passage("d", 0, 5, "no"), Gold("the answer"))
    assert not holds(passage("d", 0, 5, "no"), Gold(""))


def test_the_first_rank_counts_from_one_and_ends_at_twenty() -> None:
    golds = [Gold("x", (Place("d", 5, 6),)), Gold("y", (Place("d", 50, 60),))]
    miss, hit = passage("d", 0, 5), passage("d", 55, 56)
    assert first_rank([hit], golds) == 1
    assert first_rank([miss, miss, hit, hit], golds) == 3
    assert first_rank([miss] * 19 + [hit], golds) == 20
    assert first_rank([miss] * 20 + [hit], golds) is None
    assert first_rank([], golds) is None


@pytest.mark.parametrize(
    ("ranks", "at_one", "at_five", "mrr"),
    [([1, 2, None, 6], 0.25, 0.5, (1 + 1 / 2 + 1 / 6) / 4), ([None], 0.0, 0.0, 0.0), ([], None, None, None)],
)
def test_recall_and_reciprocal_rank(
    ranks: list[int | None], at_one: float | None, at_five: float | None, mrr: float | None
) -> None:
    assert recall_at(ranks, 1) == at_one
    assert recall_at(ranks, 5) == at_five
    assert mean_reciprocal_rank(ranks) == (pytest.approx(mrr) if mrr else mrr)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([outcome("", "a"), outcome("", "a"), outcome(""), outcome("x")], (1 / 3, 1 / 2)),
        ([outcome("x"), outcome("y")], (None, 0.0)),
        ([outcome("a", "a")], (None, None)),
        ([outcome("", "a")], (0.0, None)),
        ([outcome("", refused=True)], (None, 0.0)),
    ],
)
def test_abstention(outcomes: list[Outcome], expected: tuple[float | None, float | None]) -> None:
    assert abstention(outcomes) == expected


def test_a_summary_is_what_the_official_scripts_say() -> None:
    outcomes = [
        outcome("The blue sea", "blue sea", rank=1, ms=10),  # EM
        outcome("blue boat", "blue sea", rank=7, ms=20),  # half of the words
        outcome("", ms=30),  # unanswerable, abstained
        outcome("something", ms=40),  # unanswerable, answered
        outcome("", "gold", refused=True, ms=50),
    ]
    summary = summarize(outcomes, retrieval=True)
    assert summary.n == 5
    assert summary.em == pytest.approx(100 * 2 / 5)
    assert summary.f1 == pytest.approx(100 * 2.5 / 5)
    assert summary.f1_low <= summary.f1 <= summary.f1_high
    assert summary.recall == pytest.approx({1: 1 / 3, 5: 1 / 3, 20: 2 / 3})
    assert summary.mrr == pytest.approx((1 + 1 / 7) / 3)
    assert (summary.abstain_precision, summary.abstain_recall) == (1.0, 0.5)
    assert summary.p50_ms == 30.0
    assert summary.refused == 1


def test_a_refused_unanswerable_question_is_wrong() -> None:
    assert outcome("", refused=True).f1 == outcome("", refused=True).em == 0.0


def test_the_interval_is_seeded_and_holds_the_mean() -> None:
    values = [0.0, 100.0] * 50
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    low, high = bootstrap_interval(values)
    assert 38 < low < 50 < high < 62
    assert bootstrap_interval([7.0]) == (7.0, 7.0)


def test_offsets_of_paragraphs_are_true_in_the_joined_article() -> None:
    articles = {"A": ["one", "twö 𝄞", "three"], "B": ["four"]}
    first, second = documents_of(articles, "article")
    assert first.text == "one\n\ntwö 𝄞\n\nthree"
    assert all(first.text[o : o + len(p)] == p for p, o in first.offsets.items())
    assert (second.title, second.text, second.offsets) == ("B", "four", {"four": 0})


def test_each_paragraph_is_a_document_where_asked_for() -> None:
    documents = documents_of({"A": ["one", "two"]}, "paragraph")
    assert [(d.title, d.text, d.offsets) for d in documents] == [("A", "one", {"one": 0}), ("A", "two", {"two": 0})]


def test_a_set_has_a_collection_of_its_own() -> None:
    one, two = documents_of({"A": ["one"]}, "article"), documents_of({"A": ["two"]}, "article")
    assert collection_name(one) == collection_name(list(one))
    assert collection_name(one) != collection_name(two)


def test_a_sample_is_drawn_by_its_seed() -> None:
    questions = [Question(str(i), "q", "c", "a", (Answer("c", 0),)) for i in range(50)]
    assert sample(questions, 5, 1) == sample(questions, 5, 1) != sample(questions, 5, 2)
    assert sample(questions, None, 1) == sample(questions, 99, 1) == questions


def test_the_report_names_the_figures_in_order_and_rounds_them() -> None:
    summary = summarize([outcome("a", "a", rank=1)], retrieval=True)
    setup = Setup("set.json", Options(), False, 0, "base", 0, 1.25)
    report = figures(summary, setup)
    assert list(report)[: len(FIGURES)] == FIGURES
    assert (report["em"], report["f1"], report["recall@5"], report["mrr"]) == (100.0, 100.0, 1.0, 1.0)
    assert report["abstain_precision"] is None
    assert report_table(summary, setup).row_count == len(FIGURES)


def test_a_given_paragraph_has_no_recall() -> None:
    summary = summarize([outcome("a", "a")], retrieval=False)
    report = figures(summary, Setup("set.json", Options(given_paragraph=True), False, 0, "base", 0, 1.0))
    assert [report[name] for name in ("recall@1", "recall@5", "recall@20", "mrr")] == [None] * 4
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("folder", "name"), [("finance", "finance"), ("My Adapter (2)", "my-adapter-2-"), ("_x", "x"), ("F.v1", "f.v1")]
)
def test_an_adapter_is_named_after_its_folder(folder: str, name: str) -> None:
    assert adapter_name(Path("/somewhere") / folder) == name


@pytest.mark.parametrize("folder", ["base", "default", "---"])
def test_a_folder_that_names_no_adapter_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="rename"):
        adapter_name(Path("/somewhere") / folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("{", "not a JSON"),
        ('{"x": 1}', "not in SQuAD format"),
        ('{"data": []}', "no questions"),
    ],
)
def test_an_unusable_set_is_one_line_and_exit_code_two(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "set.json"
    if content is not None:
        file.write_text(content)
    result = _run("--data", str(file))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unusable_adapter_is_exit_code_two(tmp_path: Path) -> None:
    data = str(EXAMPLES / "questions" / "annual-report.json")
    result = _run("--data", data, "--adapter", str(tmp_path))
    assert result.exit_code == 2
    assert "adapter_config.json" in result.stderr


@pytest.mark.parametrize("name", ["annual-report", "medicine-leaflet", "staff-handbook"])
def test_the_example_answers_stand_in_the_example_documents(name: str) -> None:
    path = EXAMPLES / "questions" / f"{name}.json"
    questions = read_squad(path)
    assert len(questions) == 15
    assert sum(not q.answerable for q in questions) == 3
    for question in questions:
        for answer in question.answers:
            assert question.context.startswith(answer.text, answer.start)
    [source] = [p for p in (EXAMPLES / "documents").glob(f"{name}*") if p.suffix != ".pdf"]
    text = " ".join(source.read_text(encoding="utf-8").split())
    assert all(" ".join(p.split()) in text for paragraphs in read_articles(path).values() for p in paragraphs[1:])


def _run(*arguments: str) -> Result:
    command = typer.Typer()
    command.command()(evaluate_command)
    return CliRunner().invoke(command, list(arguments))
