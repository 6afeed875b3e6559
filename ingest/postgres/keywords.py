"""The keyword index in PostgreSQL: BM25 as SQLite's FTS5 computes it, over the same terms.

Words are split, lowered and freed of diacritics here, as FTS5's tokenizer does, and cut to their stems by PostgreSQL's
Porter stemmer. Knows the tables ``keywords…``. Every function takes an open connection.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence

from ingest.database import Connection
from ingest.keyword_index import Term

_K1, _B = 1.2, 0.75  # FTS5's
_LEAST_IDF = 1e-6
# The combining marks that FTS5 passes over; any other one parts words.
_DIACRITICS = frozenset(chr(0x300 + bit) for bit in range(50) if (0x08029FDF | 0x000361F8 << 32) >> bit & 1)
_MOST_STEMS = 50_000
_stems: dict[str, str] = {}  # of words; the same in every database
_STEM = "coalesce((ts_lexize('porter_stems', word))[1], word)"


def add(connection: Connection, chunks: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Index chunks by the words of their parts (title, section, text, further terms)."""
    worded = [(number, [word for part in parts for word in _words(part)]) for number, parts in chunks]
    connection.executemany(
        "INSERT INTO keyword_lengths (chunk, terms) VALUES (?, ?)",
        [(number, len(words)) for number, words in worded],
    )
    connection.executemany(
        f"INSERT INTO keywords (term, chunk, occurrences) SELECT {_STEM} AS term, ?, count(*) "  # noqa: S608 - constant
        "FROM unnest(CAST(? AS text[])) AS word GROUP BY 1",
        worded,
    )


def search(
    connection: Connection, terms: Sequence[Term], count: int, where: str = "", values: Sequence[object] = ()
) -> tuple[list[int], list[float]]:
    """The ``count`` best chunks by BM25, and their scores, best first.

    Args:
        where: a further condition on ``chunk``, beginning with AND, and ``values`` for its question marks.
    """
    total = connection.execute("SELECT chunks, terms FROM keyword_totals WHERE chunks > 0").fetchone()
    stemmed = _stemmed(connection, terms) if total else []
    held = [(term, number) for term, number in zip(stemmed, _holding(connection, stemmed), strict=True) if number]
    if not held:
        return [], []
    weighed: list[object] = []
    for term, number in held:
        weighed += [max(_LEAST_IDF, math.log((total["chunks"] - number + 0.5) / (number + 0.5))), term.text]
    hits = " UNION ALL ".join(
        f"SELECT chunk, sum(occurrences) AS occurrences, CAST(? AS double precision) AS idf, {place} AS place "  # noqa: S608
        f"FROM keywords WHERE {_matches(term)} GROUP BY chunk"
        for place, (term, _) in enumerate(held)
    )
    # In the order of the terms: added up as the plan has them, the same chunk's score would differ in its last bits.
    rows = connection.execute(
        f"""
        SELECT chunk, sum(idf * occurrences * {_K1 + 1} / (occurrences
            + {_K1} * ({1 - _B} + {_B} * keyword_lengths.terms / CAST(? AS double precision))) ORDER BY place) AS score
        FROM ({hits}) AS hits JOIN keyword_lengths USING (chunk) WHERE 1 = 1 {where}
        GROUP BY chunk ORDER BY score DESC, chunk LIMIT ?
        """,  # noqa: S608 - constants and question marks
        (float(total["terms"] / total["chunks"]), *weighed, *values, count),
    ).fetchall()
    return [row["chunk"] for row in rows], [row["score"] for row in rows]


def holding(connection: Connection, terms: Sequence[Term]) -> list[int]:
    """How many chunks hold each term."""
    return _holding(connection, _stemmed(connection, terms))


def _holding(connection: Connection, stemmed: Sequence[Term]) -> list[int]:
    if not stemmed:
        return []
    counts = " UNION ALL ".join(
        f"SELECT {place} AS place, count(DISTINCT chunk) AS holding FROM keywords WHERE {_matches(term)}"  # noqa: S608
        for place, term in enumerate(stemmed)
    )
    rows = connection.execute(counts, tuple(term.text for term in stemmed))
    found = {row["place"]: row["holding"] for row in rows}
    return [found[place] for place in range(len(stemmed))]


def _stemmed(connection: Connection, terms: Sequence[Term]) -> list[Term]:
    """The terms by their stems. Those of words that were asked for lately are known without asking the database."""
    words = [next(_words(term.text), "") for term in terms]
    known = {word: stem for word in words if (stem := _stems.get(word)) is not None}
    if missing := [word for word in dict.fromkeys(words) if word not in known]:
        rows = connection.execute(
            f"SELECT word, {_STEM} AS stem FROM unnest(CAST(? AS text[])) AS word",  # noqa: S608 - a constant
            (missing,),
        )
        known |= {row["word"]: row["stem"] for row in rows}
        if len(_stems) > _MOST_STEMS:
            _stems.clear()
        _stems.update(known)
    return [Term(known[word], term.is_prefix) for word, term in zip(words, terms, strict=True)]


def _matches(term: Term) -> str:
    return "term ^@ ?" if term.is_prefix else "term = ?"


def _words(text: str) -> Iterator[str]:
    """The words of a text as FTS5's ``unicode61 remove_diacritics 2`` has them: runs of letters and digits, lowered,
    Latin letters without diacritics."""
    word = ""
    for character in text.lower() + " ":
        if character in _DIACRITICS:
            continue
        category = unicodedata.category(character)
        if category[0] in "LN" or category == "Co":
            base = unicodedata.normalize("NFD", character)[0]
            word += base if base.isascii() else character
        elif word:
            yield word
            word = ""
