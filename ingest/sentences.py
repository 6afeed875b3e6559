"""Where sentences begin and end.

Rules over punctuation, white space and a short list of English abbreviations, in the spirit of Kiss and Strunk's
Punkt (2006) without its training: a wrong guess here only makes a quote a little longer or shorter. Also ends
sentences at CJK full stops, list items and headings. A pure function; knows nothing of chunks or documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

_CLOSERS = "\"'”’»›)\\]}"
_END = re.compile(rf"[.!?…]+[{_CLOSERS}*_]*(?=\s|$)|[。！？｡．]+[」』”’）】》]*|\n")
_BLANK = re.compile(r"[^\S\n]*\n[^\S\n]*(?:\n|$)")
_STARTS_ITEM = re.compile(r"[^\S\n]*(?:[-*+•‣▪◦–—]\s|\(?(?:\d{1,3}|[A-Za-z])[.)]\s|#{1,6}\s|\||>\s)")
_ENDS_LINE = re.compile(r"[^\S\n]*(?:#{1,6}\s|\|)|.*(?:\||:)[^\S\n]*$")
_NEXT_WORD = re.compile(r"\s*[\"'“‘«‹(\[{*_]*(\w+)?")
_LAST_WORD = re.compile(r"([^\s\"'“‘«‹(\[{]+)$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]$")
_LIST_NUMBER = re.compile(r"\(?(?:\d{1,3}|[A-Za-z])$")
_SHORT_LINE = 50


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Never the end of a sentence.
_TITLES = _words(
    "mr mrs ms dr prof st gen col lt capt sgt rev hon gov sen rep pres mt messrs mme mlle e.g i.e cf viz vs approx "
    "resp incl al ca"
)
# Not the end where a number follows.
_NUMBERED = _words(
    "no nos fig figs eq eqs p pp vol ch sec art tab ref refs jan feb mar apr jun jul aug sep sept oct nov dec"
)
# The end where the next word is one that begins sentences.
_AMBIGUOUS = _words("etc inc ltd co corp jr sr dept est ed eds ave blvd rd univ assn bros a.m p.m ph.d")
_STARTERS = _words(
    "the a an it its in on at he she they we you i this that these those there his her their our my however but and "
    "for from if when while after before as by what who why how where no yes all some many most both each such one "
    "according although since during between under over with without then also"
)


def sentences(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Half-open offsets of the sentences of ``text[start:end]``, in order, without white space around them.

    Every character that is not white space lies in exactly one of them.
    """
    end = len(text) if end is None else min(end, len(text))
    spans: list[Span] = []
    for stop in _stops(text, start, end):
        while start < stop and text[start].isspace():
            start += 1
        trimmed = stop
        while trimmed > start and text[trimmed - 1].isspace():
            trimmed -= 1
        if trimmed > start:
            spans.append((start, trimmed))
        start = stop
    return spans


def _stops(text: str, start: int, end: int) -> Iterator[int]:
    """Offsets just after each sentence's last character, ``end`` last."""
    begin = start
    for match in _END.finditer(text, start, end):
        position, after = match.span()
        if match.group() == "\n":
            ends = _line_ends(text, max(begin, text.rfind("\n", start, position) + 1), position, end)
        elif text[position] == ".":
            ends = _full_stop_ends(text, begin, position, after, end)
        elif text[position] in "!?…":
            ends = after - position == 1 or not _next_word(text, after, end)[:1].islower()
        else:
            ends = True
        if ends:
            yield after
            begin = after
    yield end


def _line_ends(text: str, line_start: int, newline: int, end: int) -> bool:
    """Whether a newline ends a sentence: a blank line, an item, a table row, or a line too short to be wrapped."""
    if _BLANK.match(text, newline, end) or _STARTS_ITEM.match(text, newline + 1, end):
        return True
    line = text[line_start:newline]
    if _ENDS_LINE.match(line):
        return True
    following = _next_word(text, newline, end)
    return len(line.strip()) < _SHORT_LINE and not following[:1].islower()


def _full_stop_ends(text: str, begin: int, position: int, after: int, end: int) -> bool:
    following = _next_word(text, after, end)
    if following[:1].islower():
        return False
    if after - position > 1:  # "..." or a bracket after the full stop
        return True
    word_match = _LAST_WORD.search(text, max(begin, position - 40), position)
    if word_match is None:
        return True
    word = word_match.group(1)
    if _LIST_NUMBER.fullmatch(word) and text[begin : word_match.start()].strip() == "":
        return False  # "1. First item"
    return _word_ends(word, following)


def _word_ends(word: str, following: str) -> bool:
    """Whether ``word`` and a full stop end a sentence before ``following``."""
    lowered = word.lower()
    if lowered in _TITLES:
        return False
    if lowered in _NUMBERED:
        return not following[:1].isdigit()
    initial = len(word) == 1 and word.isupper()
    if initial or lowered in _AMBIGUOUS or _INITIALS.fullmatch(word):
        return following == "" or following.lower() in _STARTERS
    return True


def _next_word(text: str, position: int, end: int) -> str:
    match = _NEXT_WORD.match(text, position, end)
    return (match.group(1) or "") if match else ""
