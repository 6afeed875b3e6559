"""Keyword search: BM25 over SQLite's full-text index (FTS5), in the tenant's own database.

The index holds terms and positions, no text: its rows are the rows of ``chunks``, kept in step by triggers, so that it
changes in the same transaction as they do and whoever deletes a chunk need not know of it. Words are folded (case,
diacritics) and stemmed (Porter 1980) by FTS5. Chinese, Japanese and Korean are written without spaces, or with affixes
that hide the word: their runs of characters are indexed as overlapping pairs, in the column ``extra_terms``.

Knows the tables of ``ingest.schema`` by name. Every function takes an open connection.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.database import Connection, is_sqlite

TITLE_OF_CHUNKS = "coalesce(documents.title, CASE documents.is_text WHEN 0 THEN documents.name END, '')"
"""What a document is called, for its chunks to be found by: its title, else its file's name."""

_TITLE_WEIGHT = 1.0  # of title and section, beside the text's 1: more gained nothing on SQuADShifts
_K1 = 1.2  # of FTS5's BM25
_LEAST_IDF = 1e-6  # FTS5's too
_INDEXED_AT_ONCE = 500  # chunks
_MOST_TERMS = 128
_LONGEST_TERM = 100

_CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7fb\uf900-\ufaff"
    "\U00020000-\U000323af"
)
_CJK_RUN = re.compile(f"[{_CJK}]+")
_CONTRACTION = re.compile(r"['’](?:s|t|d|ll|m|re|ve)\b", re.IGNORECASE)
# English words that say how a question is put, not what it is about.
_STOP_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        "a about above after again against all also am an and any are aren as at be because been before being "
        "below between both but by can cannot could couldn did didn do does doesn doing don down during each few "
        "for from further had hadn has hasn have haven having he her here hers herself him himself his how i if in "
        "into is isn it its itself just ll me more most mustn my myself no nor not now of off on once only or "
        "other ought our ours ourselves out over own please same shall she should shouldn so some such tell than "
        "that the their theirs them themselves then there these they this those through to too under until up upon "
        "very was wasn we were weren what whatever when where which while who whom whose why will with would "
        "wouldn you your yours yourself yourselves",
    )
)


@dataclass(frozen=True, slots=True)
class Term:
    """What is looked for: a word, or with ``is_prefix`` the beginning of one."""

    text: str
    is_prefix: bool = False

    @property
    def expression(self) -> str:
        """The term as FTS5 takes it."""
        return f'"{self.text}"*' if self.is_prefix else f'"{self.text}"'


def extra_terms(title: str, text: str) -> str:
    """The terms of a chunk that FTS5's word tokenizer would not find, separated by spaces.

    These are the pairs of characters of Chinese, Japanese and Korean runs, with the last character of a run alone, so
    that a single character is always the beginning of a term; and words whose compatibility form differs from how
    they are written (ligatures, full-width letters).
    """
    whole = f"{title}\n{text}"
    terms: list[str] = []
    normal = unicodedata.normalize("NFKC", whole)
    if normal != whole:
        folded = ((word, unicodedata.normalize("NFKC", word)) for word in whole.split())
        terms += [_CJK_RUN.sub(" ", after).strip() for before, after in folded if before != after]
    for run in _CJK_RUN.findall(normal):
        terms += _pairs(run)
        terms.append(run[-1])
    return " ".join(term for term in terms if term)


def match_expression(query: str) -> str | None:
    """An FTS5 expression that any term of ``query`` fulfils; ``None`` when it holds no letter and no digit.

    Nothing of the query is read as FTS5's syntax. English function words are left out unless nothing else is asked.
    At most 128 different terms are looked for, the first ones.
    """
    return " OR ".join(term.expression for term in _terms(query)) or None


def telling_words(query: str) -> list[str]:
    """The words of a query, each once, without English function words; none of Chinese, Japanese or Korean."""
    normal = _normal(query)
    words = list(dict.fromkeys(_words(_CJK_RUN.sub(" ", _CONTRACTION.sub(" ", normal)))))
    shouted = normal.isupper()
    # A function word in capitals is another word: WHO, IT.
    return [
        word for word in words if word.lower() not in _STOP_WORDS or (word.isupper() and len(word) > 1 and not shouted)
    ]


def _normal(query: str) -> str:
    return unicodedata.normalize("NFKC", query.encode("utf-8", "replace").decode("utf-8"))


def _terms(query: str) -> list[Term]:
    normal = _normal(query)
    runs = _CJK_RUN.findall(normal)
    characters = dict.fromkeys(pair for run in runs for pair in _pairs(run))
    words = telling_words(query)
    if not words and not runs:  # nothing else is asked
        words = list(dict.fromkeys(_words(_CONTRACTION.sub(" ", normal))))
    terms = [Term(word[:_LONGEST_TERM]) for word in [*words, *characters]]
    # A single character is looked for as the beginning of a pair.
    terms += [Term(run, is_prefix=True) for run in dict.fromkeys(runs) if len(run) == 1]
    return terms[:_MOST_TERMS]


def search(
    connection: Connection, query: str, count: int, documents: Sequence[str] | None = None
) -> tuple[list[int], list[float]]:
    """The ``count`` chunks that fit the query's words best, and their BM25 scores (positive), best first.

    Args:
        documents: search only in these; all when ``None``.
    """
    where, values = "", []
    if documents is not None:
        where = "IN (SELECT number FROM chunks WHERE document_id IN (SELECT value FROM json_each(?)))"
        values = [json.dumps(list(documents))]
    return _ranked(connection, _terms(query), where, values, count)


def scores(connection: Connection, query: str, numbers: Sequence[int]) -> dict[int, float]:
    """BM25 scores of these chunks; one that holds none of the query's words is left out."""
    where, values = "IN (SELECT CAST(value AS BIGINT) FROM json_each(?))", [json.dumps(list(numbers))]
    return dict(zip(*_ranked(connection, _terms(query), where, values, len(numbers)), strict=True))


def ceiling(connection: Connection, query: str) -> float:
    """About the highest BM25 score a chunk could have for the query: every term, as often as one likes.

    FTS5's BM25 has k1 = 1.2, so a term earns at most (k1 + 1) times its inverse document frequency.
    """
    total = int(
        connection.execute("SELECT coalesce(sum(chunks), 0) FROM documents WHERE status = 'ready'").fetchone()[0]
    )
    highest = 0.0
    for holding in _holding(connection, _terms(query)):
        highest += max(_LEAST_IDF, math.log((total - holding + 0.5) / (holding + 0.5))) if holding < total else 0.0
    return (_K1 + 1) * highest


def add(connection: Connection, chunks: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Index chunks that were just stored, by the words of their parts, where no trigger does."""
    if not is_sqlite(connection):
        from ingest.postgres import keywords

        keywords.add(connection, chunks)


def index_copied(connection: Connection) -> None:
    """Index chunks that were copied from another database as rows, where no trigger has."""
    last = 0
    while not is_sqlite(connection):
        rows = connection.execute(
            "SELECT number, title, coalesce(section, ''), text, extra_terms FROM chunks WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (last, _INDEXED_AT_ONCE),
        ).fetchall()
        if not rows:
            return
        add(connection, [(row["number"], tuple(row)[1:]) for row in rows])
        last = rows[-1]["number"]


def index_existing(connection: Connection) -> None:
    """Index the chunks that were there before the keyword index: a step of the migrations of ``ingest.schema``."""
    rows = connection.execute(
        f"SELECT chunks.number, chunks.text, {TITLE_OF_CHUNKS} AS title FROM chunks "  # noqa: S608 - constant columns
        "JOIN documents ON documents.id = chunks.document_id"
    ).fetchall()
    connection.executemany(
        "UPDATE chunks SET title = ?, extra_terms = ? WHERE number = ?",
        [(row["title"], extra_terms(row["title"], row["text"]), row["number"]) for row in rows],
    )
    connection.execute("INSERT INTO keywords (keywords) VALUES ('rebuild')")


def _ranked(
    connection: Connection, terms: Sequence[Term], where: str, values: Sequence[str], count: int
) -> tuple[list[int], list[float]]:
    """``where``: what further holds of a chunk's number, if anything."""
    if not terms or count <= 0:
        return [], []
    if not is_sqlite(connection):
        from ingest.postgres import keywords

        return keywords.search(connection, terms, count, where and f"AND chunk {where}", values)
    # With a bare rowid FTS5 would run the whole match once for each number of the list; +rowid filters after one match.
    rows = connection.execute(
        f"SELECT rowid, -bm25(keywords, {_TITLE_WEIGHT}, {_TITLE_WEIGHT}, 1.0, 1.0) AS score FROM keywords "  # noqa: S608
        f"WHERE keywords MATCH ? {where and f'AND +rowid {where}'} ORDER BY score DESC, rowid LIMIT ?",
        (" OR ".join(term.expression for term in terms), *values, count),
    ).fetchall()
    return [row["rowid"] for row in rows], [row["score"] for row in rows]


def _holding(connection: Connection, terms: Sequence[Term]) -> list[int]:
    """How many chunks hold each term."""
    if not is_sqlite(connection):
        from ingest.postgres import keywords

        return keywords.holding(connection, terms)
    query = "SELECT count(*) FROM keywords WHERE keywords MATCH ?"
    return [connection.execute(query, (term.expression,)).fetchone()[0] for term in terms]


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]


def _words(text: str) -> Iterator[str]:
    """Runs of letters, digits and marks."""
    word = ""
    for character in text + " ":
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            word += character
        elif word:
            if any(each.isalnum() for each in word):
                yield word
            word = ""
