"""Asks every question of a file and sends its correction as feedback on the answer, as people would over some weeks.

    python examples/send_corrections.py FILE [--url http://127.0.0.1:8000]

A line of the file is a JSON object with ``question`` and ``answer``, what the answer should have been. The key is taken
from LOREBASE_DEFAULT_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from app.client import LorebaseClient


def main() -> None:
    """Send the corrections, and say how many answers were right as they stood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.file.read_text(encoding="utf-8").splitlines()]
    right = 0
    with LorebaseClient(given.url, os.environ["LOREBASE_DEFAULT_KEY"]) as lorebase:
        for line in lines:
            answer = lorebase.ask(line["question"])
            right += answer.answer == line["answer"]
            lorebase.give_feedback(answer.request_id, correction=line["answer"])
    print(f"{len(lines)} corrections sent; {right} answers were as wanted already.")


if __name__ == "__main__":
    main()
