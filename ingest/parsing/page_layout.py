"""From the lines of a printed page to paragraphs.

A PDF knows where letters stand, not what a paragraph is. These are pure functions over lines with their places: which
lines make a row of a table, where a paragraph ends, which lines are headings, which repeat on every page. Knows
nothing of PDF itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

_ITEM = re.compile(r"(?:[-*•‣▪◦●○–—]\s*\S|\(?(?:\d{1,2}|[a-zA-Z])[.)]\s)")
_TERMINAL = re.compile(r"[.!?:;。！？][\"'”’)\]]*$")
_DIGITS = re.compile(r"\d+")
_NOT_LETTERS = re.compile(r"[\W_]+")
_PAGE_NUMBER = re.compile(r"\W*(?:(?:page|p|seite|página)\W*)?#(?:\s*(?:/|of|von|de)\s*#)?\W*")
_LETTER = re.compile(r"[^\W\d_]")
_NUMBERING = re.compile(r"^(?:(?:chapter|section|part)\s+)?[\dIVXivx]+(?:\.\d+)*[.):]?\s+", re.IGNORECASE)
_HYPHENS = "\u00ad\ufffe\x02"
_WORD = re.compile(r"\w+(?:-\w+)*")
_JOINING = frozenset({"and", "or", "to", "und", "oder", "et", "ou"})  # "pre- and post-war"
# fmt: off
_PREFIXES = frozenset({
    "self", "well", "all", "half", "ex", "cross", "long", "short", "high", "low", "large", "small", "hard", "soft",
    "full", "part", "open", "closed", "real", "first", "second", "third", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "ten", "one", "top", "best", "user", "time", "so",
})
# fmt: on
_SHORT_PART = 2

_REPEATED_SHARE = 0.6
_REPEATED_PAGES = 3
_HEADING_SCALE = 1.15
_HEADING_CHARACTERS = 120
_HEADING_LEVELS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page. Places in points, the origin at the lower left; ``size`` is the height of its letters' box."""

    text: str
    left: float
    right: float
    baseline: float
    size: float
    cells: int = 1


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, table row or heading; ``close`` when it follows the block above without a blank line."""

    text: str
    close: bool = False
    level: int | None = None
    title: str = ""


def without_repeated_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The pages without running heads, running feet and page numbers.

    A line counts as one when, digits aside, it stands apart at the top or foot of most pages. Page numbers go; of any
    other line the first occurrence stays, since it is often the document's only mention of its own name.
    """
    if len(pages) < _REPEATED_PAGES:
        return [list(page) for page in pages]
    least = max(_REPEATED_PAGES, _REPEATED_SHARE * len(pages))
    counts = Counter(key for page in pages for key in {_running_key(line) for line in _edges(page)})
    repeated = {
        key for key, count in counts.items() if count >= least and (_LETTER.search(key) or _PAGE_NUMBER.fullmatch(key))
    }
    seen: set[str] = set()
    kept: list[list[Line]] = []
    for page in pages:
        edges = _edges(page)
        lines: list[Line] = []
        for line in page:
            key = _running_key(line)
            if key in repeated and line in edges and (key in seen or _PAGE_NUMBER.fullmatch(key)):
                continue
            seen.add(key)
            lines.append(line)
        kept.append(lines)
    return kept


def rows_joined(lines: Sequence[Line]) -> list[Line]:
    """Lines that stand side by side on one baseline become one line, their texts separated by spaces."""
    joined: list[Line] = []
    for line in lines:
        before = joined[-1] if joined else None
        if before and abs(before.baseline - line.baseline) < 0.3 * before.size and line.left >= before.right - 1:
            gap = " | " if line.left - before.right > before.size else " "
            text = before.text + gap + line.text
            joined[-1] = replace(before, text=text, right=line.right, cells=before.cells + line.cells)
        else:
            joined.append(line)
    return joined


def body_size(pages: Sequence[Sequence[Line]]) -> float:
    """The size most letters are set in."""
    letters: Counter[float] = Counter()
    for page in pages:
        for line in page:
            letters[round(line.size, 1)] += len(line.text)
    return letters.most_common(1)[0][0] if letters else 0.0


def heading_sizes(pages: Sequence[Sequence[Line]], body: float) -> dict[float, int]:
    """Levels of the sizes that headings are set in, the largest first, for documents without an outline."""
    sizes = {round(line.size, 1) for page in pages for line in page if _is_large(line, body)}
    return {size: min(rank, _HEADING_LEVELS) for rank, size in enumerate(sorted(sizes, reverse=True), start=1)}


def blocks(
    lines: Sequence[Line],
    outline: Sequence[tuple[int, str]],
    sizes: dict[float, int],
    body: float,
    words: Collection[str] = frozenset(),
) -> list[Block]:
    """The blocks of one page.

    Args:
        lines: in reading order.
        outline: (level, title) of the bookmarks that lead to this page.
        sizes: level by letter size, for documents without bookmarks; else empty.
        body: the size of the document's running text.
        words: those of the document, see ``words_of``.
    """
    lines = rows_joined(lines)
    titles = _outline_lines(lines, outline)
    pitch = _pitch(lines)
    found: list[Block] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if index in titles:
            level, title, count = titles[index]
            found.append(Block(" ".join(each.text for each in lines[index : index + count]), level=level, title=title))
            index += count
            continue
        if _is_large(line, body) and round(line.size, 1) in sizes:
            end = index + 1
            while end < len(lines) and abs(lines[end].size - line.size) < 0.1 and end - index < 3 and end not in titles:
                end += 1
            text = " ".join(each.text for each in lines[index:end])
            found.append(Block(text, level=sizes[round(line.size, 1)], title=text))
            index = end
            continue
        index = _paragraph(lines, index, titles, sizes, pitch, body, words, found)
    return found


def join_lines(first: str, second: str, words: Collection[str] = frozenset()) -> str:
    """Two lines of one paragraph as running text; a word divided at the end of the line becomes whole again.

    A hyphen that belongs to its word stays: before a capital or a digit (``Jean-Paul``), before "and" or "or", after
    prefixes such as "self", and where ``words``, those of the document in small letters, say so.
    """
    if first[-1:] not in {"-", *_HYPHENS} or not first[-2:-1].isalnum():
        return f"{first} {second}"
    divided = first[:-1]
    before, after = _last_word(divided), _first_word(second)
    if after in _JOINING:
        return f"{divided}- {second}"
    if not second[:1].islower():
        return f"{divided}-{second}"
    parts = before.rsplit("-", 1)[-1], after.split("-", 1)[0]
    if f"{before}{after}" in words or "".join(parts) in words:
        return divided + second
    known = all(len(part) > _SHORT_PART and part in words for part in parts)
    if known or parts[0] in _PREFIXES or f"{before}-{after}" in words:
        return f"{divided}-{second}"
    return divided + second


def words_of(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """The words of a document in small letters, compounds also as a whole, without what line ends divided."""
    found: set[str] = set()
    for page in pages:
        divided = False
        for line in page:
            words = [word.casefold() for word in _WORD.findall(line.text)]
            begin = 1 if divided else 0
            divided = line.text[-1:] in {"-", *_HYPHENS}
            for word in words[begin : len(words) - divided]:
                found.add(word)
                found.update(word.split("-"))
    return frozenset(found)


def continues(text: str, following: str) -> bool:
    """Whether ``following``, at the top of a page, goes on with the sentence ``text`` ends in."""
    return bool(text) and not _TERMINAL.search(text) and following[:1].islower()


def _paragraph(
    lines: Sequence[Line],
    index: int,
    titles: dict[int, tuple[int, str, int]],
    sizes: dict[float, int],
    pitch: float,
    body: float,
    words: Collection[str],
    found: list[Block],
) -> int:
    """Add the paragraph that starts at ``index`` to ``found``; returns the index after it."""
    text = lines[index].text
    close = index > 0 and bool(found) and found[-1].level is None and _close(lines[index - 1], lines[index], pitch)
    index += 1
    while index < len(lines) and index not in titles:
        before, line = lines[index - 1], lines[index]
        if (_is_large(line, body) and round(line.size, 1) in sizes) or not _flows(lines, before, line, pitch):
            break
        text = join_lines(text, line.text, words)
        index += 1
    found.append(Block(text, close=close))
    return index


def _flows(lines: Sequence[Line], before: Line, line: Line, pitch: float) -> bool:
    """Whether ``line`` goes on with the paragraph that ``before`` belongs to."""
    if before.text[-1:] in _HYPHENS:
        return True
    if before.cells > 1 or line.cells > 1 or _ITEM.match(line.text):
        return False
    ended = bool(_TERMINAL.search(before.text))
    down = before.baseline - line.baseline
    if down < 0:  # the next column
        return not ended and abs(before.size - line.size) <= 0.12 * before.size
    if down > 1.3 * pitch or abs(before.size - line.size) > 0.12 * before.size:
        return False
    indented = line.left > before.left + 0.7 * before.size
    column_right = max(other.right for other in lines if abs(other.left - before.left) < 3 * before.size)
    short = before.right < column_right - 0.12 * (column_right - before.left)
    if ended:
        return not short and not indented
    # A short line that does not end a sentence: an address, a list without marks, a caption.
    very_short = before.right < before.left + 0.6 * (column_right - before.left)
    return not (very_short and not line.text[:1].islower())


def _close(before: Line, line: Line, pitch: float) -> bool:
    """Whether two blocks belong together as items of a list or rows of a table."""
    down = before.baseline - line.baseline
    if not 0 <= down <= 1.3 * pitch:
        return False
    items = bool(_ITEM.match(line.text))
    rows = before.cells > 1 and line.cells > 1
    return items or rows or not _TERMINAL.search(before.text)


def _pitch(lines: Sequence[Line]) -> float:
    """The usual distance between the baselines of a paragraph's lines: the lower third, since gaps are larger."""
    steps = [
        before.baseline - line.baseline
        for before, line in pairwise(lines)
        if 0.5 * line.size < before.baseline - line.baseline < 3 * line.size
    ]
    return sorted(steps)[(len(steps) - 1) // 3] if steps else 1.2 * (lines[0].size if lines else 12.0)


def _outline_lines(lines: Sequence[Line], outline: Sequence[tuple[int, str]]) -> dict[int, tuple[int, str, int]]:
    """Line index → (level, title, number of lines) for each bookmark whose words fill one to three lines."""
    found: dict[int, tuple[int, str, int]] = {}
    for level, title in outline:
        wanted = {_letters(title), _letters(_NUMBERING.sub("", title))} - {""}
        for index in range(len(lines)):
            for count in (1, 2, 3):
                if index in found or index + count > len(lines):
                    continue
                text = " ".join(line.text for line in lines[index : index + count])
                if {_letters(text), _letters(_NUMBERING.sub("", text))} & wanted:
                    found[index] = (level, title, count)
                    break
            if index in found and found[index][1] == title:
                break
    return found


def _is_large(line: Line, body: float) -> bool:
    letters = _letters(line.text)
    return (
        line.size > _HEADING_SCALE * body
        and len(letters) > 2
        and not letters.isdigit()
        and len(line.text) <= _HEADING_CHARACTERS
        and line.cells == 1
    )


def _edges(page: Sequence[Line]) -> list[Line]:
    """Up to two lines at the foot and two at the top, where a gap divides them from the rest of the page."""
    upwards = sorted(page, key=lambda line: line.baseline)
    gap = 1.3 * _pitch(upwards[::-1])
    found: list[Line] = []
    for ordered in (upwards, upwards[::-1]):
        for count in (1, 2):
            if len(ordered) > count and abs(ordered[count].baseline - ordered[count - 1].baseline) > gap:
                found += ordered[:count]
                break
    return found


def _running_key(line: Line) -> str:
    return _DIGITS.sub("#", " ".join(line.text.casefold().split()))


def _last_word(text: str) -> str:
    words = _WORD.findall(text[-80:])
    return words[-1].casefold() if words else ""


def _first_word(text: str) -> str:
    found = _WORD.match(text)
    return found.group().casefold() if found else ""


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text).casefold()
