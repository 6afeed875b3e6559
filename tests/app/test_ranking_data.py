"""Training data for the reranker is what the service's own search finds, mined once."""

from __future__ import annotations

import json
from pathlib import Path

from app.ranking_data import ranking_data
from tests.ingest.hashing_embedder import HashingEmbedder

TOWNS = ("Aldmoor", "Brinfell", "Carrowick", "Dunhaven", "Eastmere", "Farrowby", "Glenrath", "Hollowell")


def question_set(path: Path) -> Path:
    paragraphs = []
    for number in range(80):
        town = f"{TOWNS[number % 8]}{number // 8}"
        context = f"{town} has a mayor, Ms Holm{number}, and a bridge over its river."
        answer = f"Ms Holm{number}"
        qas = [
            {
                "id": f"q{number}",
                "question": f"Who is mayor of {town}?",
                "answers": [{"text": answer, "answer_start": context.index(answer)}],
            }
        ]
        paragraphs.append({"context": context, "qas": qas})
    path.write_text(json.dumps({"data": [{"title": "Towns", "paragraphs": paragraphs}]}))
    return path


def test_every_example_has_the_passage_that_answers_first_and_its_neighbours_behind(tmp_path: Path) -> None:
    sets = [question_set(tmp_path / "set.json")]
    mined = ranking_data(sets, tmp_path / "m", HashingEmbedder(), questions=10, held_out=2, negatives=3)
    assert len(mined.examples) == 10
    for example in mined.examples:
        town = example.question.removeprefix("Who is mayor of ").rstrip("?")
        assert town in example.passages[0]
        assert len(example.passages) == 4
        assert all(f"{town} " not in passage for passage in example.passages[1:])
    assert all(any(case.answers) and len(case.fused) == len(case.passages) == 20 for case in mined.held_out)
    asked = {example.question for example in mined.examples}
    assert not asked & {case.question for case in mined.held_out}


def test_what_was_mined_is_used_again(tmp_path: Path) -> None:
    sets = [question_set(tmp_path / "set.json")]
    first = ranking_data(sets, tmp_path / "m", HashingEmbedder(), questions=4, held_out=1, negatives=2)
    again = ranking_data([], tmp_path / "m", HashingEmbedder(), questions=4, held_out=1, negatives=2)
    assert again == first
