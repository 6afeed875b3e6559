"""Splitting source code where functions, classes and statements begin.

Reads lines, brackets, strings and comments and no grammar, so code that does not compile is split as well, and nothing
of it is run. What begins at the outermost level is a unit; a unit that is too long is split at the next level in. The
level of a line is its indentation in Python and its like, and the number of open braces in C and its like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.splitting.chunks import Span, SplitConfig, join_small
from ingest.splitting.recursive import even_pieces, sentence_units

CODE = "text/x-"
"""The media type of source code begins with this, and ends with the language's name."""

_INSIDE = 1_000_000  # the level of a line where no unit can begin
_DEEPEST = 12
_C = "c cpp csharp java javascript typescript go rust kotlin swift scala php css dart groovy"
_HASH = "python ruby shell r julia perl yaml toml makefile dockerfile elixir"
_DASH = "sql lua haskell"
_ALIASES = {
    "py": "python", "python3": "python", "js": "javascript", "jsx": "javascript", "ts": "typescript",
    "tsx": "typescript", "rb": "ruby", "sh": "shell", "bash": "shell", "zsh": "shell", "console": "shell",
    "c++": "cpp", "cc": "cpp", "c#": "csharp", "cs": "csharp", "rs": "rust", "kt": "kotlin", "golang": "go",
    "yml": "yaml", "pl": "perl", "jl": "julia", "scss": "css", "less": "css",
}  # fmt: skip
_DOUBLE, _SINGLE = r'"(?:\\.|[^"\\\n])*"', r"'(?:\\.|[^'\\\n])*'"
_BRACKETS = r"(?P<open>[({\[])|(?P<close>[)}\]])|(?P<line>\n)"


def _tokens(comment: str, *strings: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<comment>{comment})|(?P<string>{'|'.join(strings)})|{_BRACKETS}")


# What never ends reaches to the end of the text: one pass, however hostile the text.
_BLOCK_COMMENT = r"/\*[\s\S]*?(?:\*/|\Z)"
_LEXERS = {
    **dict.fromkeys(_C.split(), _tokens(rf"//[^\n]*|{_BLOCK_COMMENT}", _DOUBLE, r"'(?:\\.|[^'\\\n]){1,8}'")),
    **dict.fromkeys(
        ("javascript", "typescript", "go"),
        _tokens(rf"//[^\n]*|{_BLOCK_COMMENT}", r"`(?:\\[\s\S]|[^`\\])*(?:`|\Z)", _DOUBLE, _SINGLE),
    ),
    **dict.fromkeys(_HASH.split(), _tokens(r"#[^\n]*", _DOUBLE, _SINGLE)),
    "python": _tokens(
        r"#[^\n]*", r'"""(?:\\[\s\S]|[^\\])*?(?:"""|\Z)', r"'''(?:\\[\s\S]|[^\\])*?(?:'''|\Z)", _DOUBLE, _SINGLE
    ),
    **dict.fromkeys(_DASH.split(), _tokens(rf"--[^\n]*|{_BLOCK_COMMENT}", _DOUBLE, _SINGLE)),
}
_BRACED = frozenset([*_C.split(), "perl", "r"])
# A line that begins so goes on with what stands above it, at whatever level.
_CONTINUES = re.compile(
    r"[)}\]{]|(?:else|elif|elsif|except|finally|catch|rescue|ensure|end|fi|done|esac|then|do|until)\b"
)
# A line that begins so belongs to what stands below it: decorators, annotations, attributes, templates.
_LEADS = re.compile(r"@|#\[|\[\w[^\]]*\]\s*$|template\b")


@dataclass(slots=True)
class _Line:
    start: int
    end: int
    level: int
    leads: bool  # belongs to what stands below it
    after_blank: bool


def language_of(name: str) -> str | None:
    """The language that a media type (``text/x-python``) or a code fence (``py``) names; ``None`` if it is no known
    one."""
    name = name.lower().removeprefix(CODE)
    name = _ALIASES.get(name, name)
    return name if name in _LEXERS else None


def code_spans(text: str, language: str, config: SplitConfig, start: int = 0, end: int | None = None) -> list[Span]:
    """The chunks of the code in ``text[start:end]``, in order, none longer than ``config.size``.

    Functions, classes and statements that fit are never cut; small neighbours share a chunk. Every character that is
    not white space lies in exactly one.

    Args:
        language: one that ``language_of`` gave.
    """
    lines = _lines(text, start, len(text) if end is None else end, language)
    return _split(text, lines, replace(config, overlap=0), 0) if lines else []


def line_spans(text: str, lines: Sequence[Span], config: SplitConfig) -> list[Span]:
    """Lines together in even pieces; a line longer than ``config.size`` is cut at words."""
    units = [unit for start, end in lines for unit in _line_units(text, start, end, config.size)]
    return even_pieces(units, replace(config, overlap=0)) if units else []


def _line_units(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    if end - start <= size:
        yield start, end
    else:
        yield from sentence_units(text, start, end, size)


def _split(text: str, lines: Sequence[_Line], config: SplitConfig, depth: int) -> list[Span]:
    """Spans of lines that are too long together, or fit: units side by side, each too long one split in turn."""
    first, last = lines[0].start, lines[-1].end
    if last - first <= config.size:
        return [(first, last)]
    starts = _unit_starts(lines)
    if len(starts) == 1 or depth == _DEEPEST:
        return line_spans(text, [(line.start, line.end) for line in lines], config)
    spans: list[Span] = []
    small: list[Span] = []  # units that fit, since the last that did not
    for begin, finish in zip(starts, [*starts[1:], len(lines)], strict=True):
        unit = lines[begin:finish]
        if unit[-1].end - unit[0].start <= config.size:
            small.append((unit[0].start, unit[-1].end))
            continue
        spans += join_small(small, config)
        small = []
        spans += _split(text, unit, config, depth + 1)
    return spans + join_small(small, config)


def _unit_starts(lines: Sequence[_Line]) -> list[int]:
    """Indices of the lines with which units begin, the first of them 0: at the outermost level that has several."""
    level = min(line.level for line in lines)
    starts = _starts_at(lines, level)
    if len(starts) == 1:  # one definition: its head is the first unit, what stands in it the others
        inner = min((line.level for line in lines if line.level > level), default=_INSIDE)
        if inner < _INSIDE:
            starts = _starts_at(lines, inner)
    return starts


def _starts_at(lines: Sequence[_Line], level: int) -> list[int]:
    starts = [0]
    for index in range(1, len(lines)):
        line, above = lines[index], lines[index - 1]
        led = above.leads and not line.after_blank
        if line.level == level and not led:
            starts.append(index)
    return starts


def _lines(text: str, start: int, end: int, language: str) -> list[_Line]:
    """The lines of ``text[start:end]`` that are not blank, with their levels."""
    braced = language in _BRACED
    braces = others = 0  # that are open
    lines: list[_Line] = []
    line_start, inside, comment = start, False, False  # of the line being read
    blank = False  # the line above is

    def close(line_end: int) -> None:
        nonlocal blank
        begin = line_start
        while begin < line_end and text[begin].isspace():
            begin += 1
        finish = line_end
        while finish > begin and text[finish - 1].isspace():
            finish -= 1
        if begin == finish:
            blank = True
            return
        level = opened if braced else len(text[line_start:begin].expandtabs(4))
        if inside or nested or _CONTINUES.match(text, begin, finish):
            level = _INSIDE
        leads = comment or _LEADS.match(text, begin, finish) is not None
        lines.append(_Line(begin, finish, level, leads, blank))
        blank = False

    opened, nested = 0, False  # braces, and whether other brackets, were open where the line began
    for token in _LEXERS[language].finditer(text, start, end):
        kind = token.lastgroup
        if kind == "open":
            braces, others = (braces + 1, others) if braced and token[0] == "{" else (braces, others + 1)
        elif kind == "close":
            if braced and token[0] == "}":
                braces = max(braces - 1, 0)
            else:
                others = max(others - 1, 0)
        elif kind == "comment" and not text[line_start : token.start()].strip():
            comment = True
        newline = text.find("\n", token.start(), token.end())
        while newline >= 0:
            close(newline)
            line_start = newline + 1
            inside = newline + 1 < token.end()
            comment = comment and inside
            opened, nested = braces, others > 0
            newline = text.find("\n", line_start, token.end())
    close(end)
    return lines
