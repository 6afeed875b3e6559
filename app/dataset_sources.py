"""Which of a tenant's documents the examples of a training set come from, so that an erased document reaches what was
trained on it.

What a set says is taken, and its passages are looked for, word for word, in the documents' texts. Knows corpora and
training examples; knows no tables.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from adapters.training import TrainingExample
from app.datasets import DatasetSource
from ingest import Corpus, DocumentRecord, IngestError

_PAGE = 500
_ANCHOR = 48  # characters of a passage's beginning that are looked up at every word of a text
_WORD = re.compile(r"(?<!\S)\S")


def sources_of(corpus: Corpus, examples: Sequence[TrainingExample]) -> list[DatasetSource]:
    """The documents of a corpus that examples come from: those they name by id or title, and those whose text holds a
    passage of theirs as it stands."""
    records = {each.id: each for each in ready_documents(corpus)}
    titled: dict[str, list[str]] = defaultdict(list)
    for record in records.values():
        titled[record.title].append(record.id)
    found: dict[str, set[int]] = defaultdict(set)
    sought: dict[str, list[tuple[str, int]]] = defaultdict(list)  # by anchor: passages, each with its example
    for number, example in enumerate(examples):
        named = [example.document] if example.document in records else titled.get(example.document, [])
        for document_id in named:
            found[document_id].add(number)
        for passage in example.passages:
            text = passage.text.strip()
            sought[text[:_ANCHOR]].append((text, number))
    short = [anchor for anchor in sought if len(anchor) < _ANCHOR]
    for document_id in records if sought else ():
        try:
            text = corpus.text(document_id)
        except IngestError:  # deleted meanwhile
            continue
        for word in _WORD.finditer(text):
            for said, number in sought.get(text[word.start() : word.start() + _ANCHOR], ()):
                if text.startswith(said, word.start()):
                    found[document_id].add(number)
        for said, number in (each for anchor in short for each in sought[anchor]):
            if said in text:
                found[document_id].add(number)
    return [DatasetSource(id_, records[id_].sha256, tuple(sorted(which))) for id_, which in found.items()]


def ready_documents(corpus: Corpus) -> Iterator[DocumentRecord]:
    """Every document of a corpus that is ready."""
    offset = 0
    while True:
        page, total = corpus.documents(_PAGE, offset, status="ready")
        yield from page
        offset += len(page)
        if not page or offset >= total:
            return
