"""By structure: a section is a chunk, tables and definitions stay whole, and only what is too long is cut inside."""

from __future__ import annotations

import pytest

from ingest.parsing.document import ParsedDocument
from ingest.parsing.plain import parse_markdown
from ingest.splitting import SplitConfig, split

CONFIG = SplitConfig(600, method="document")
PROSE = "The boats come in at dawn and leave again at dusk, whatever the weather. "
PYTHON = '''"""A module."""

import os

LIMIT = 3


@cached
def first(x):
    """Not a unit:
def inside_a_string(): pass
    """
    values = [
        x,
    ]
    if x:
        return 1
    else:
        return values


# About the second.
class Second:
    """Has methods."""

    size = 4

    def one(self):
        return "def no(): {" + str(self.size)

    def two(self):
        return 2
'''
C = """#include <stdio.h>

/* Adds.
 * int not_this(void) {
 */
static int add(int a, int b)
{
    if (a > b) {
        return a + b;
    } else {
        return b + a;   // } not a closer
    }
}

int main(void) {
    printf("}{%d", add(1, 2));
    return 0;
}
"""


def texts(parsed: ParsedDocument, config: SplitConfig = CONFIG) -> list[str]:
    done = split(parsed, config)
    assert done is not None
    return [parsed.text[chunk.start : chunk.end] for chunk in done.chunks]


def markdown(text: str) -> ParsedDocument:
    return parse_markdown(text.encode())


def test_each_section_is_a_chunk_that_knows_its_path() -> None:
    parsed = markdown(f"# Harbour\n\n{PROSE * 3}\n\n## Prices\n\n{PROSE * 3}\n\n### Boats\n\n{PROSE * 3}\n")
    done = split(parsed, CONFIG)
    assert done is not None
    assert [chunk.section for chunk in done.chunks] == ["Harbour", "Harbour > Prices", "Harbour > Prices > Boats"]
    assert all(parsed.text[chunk.start] == "#" for chunk in done.chunks)


def test_a_small_section_goes_with_its_own_but_not_with_the_next_chapter() -> None:
    parsed = markdown("# One\n\nShort.\n\n## A\n\nAlso short.\n\n# Two\n\nShort again.\n\n# Three\n\nAnd again.")
    config = SplitConfig(60, overlap=5, minimum=30, method="document")
    assert [text.split("\n")[0] for text in texts(parsed, config)] == ["# One", "# Two"]
    lower = markdown("## A\n\nShort.\n\n# Two\n\nShort again.")
    assert len(texts(lower)) == 2


def test_a_table_is_kept_whole_with_its_header_and_what_introduces_it() -> None:
    table = "| Berth | Price |\n| --- | --- |\n" + "\n".join(f"| {i} | {i * 9} euros |" for i in range(12))
    parsed = markdown(f"# Prices\n\n{PROSE * 8}\n\nThe prices:\n\n{table}\n\n{PROSE * 5}")
    assert any(text.endswith(table) for text in texts(parsed))
    assert not any("| 5 |" in text and "| Berth |" not in text for text in texts(parsed))


def test_a_table_that_is_too_long_is_cut_between_rows() -> None:
    rows = [f"Berth {i} | {'wide ' * 5}| {i * 9} euros" for i in range(40)]
    parsed = ParsedDocument("Berth | Size | Price\n" + "\n".join(rows), "text/html")
    pieces = texts(parsed)
    assert pieces[0].startswith("Berth | Size | Price\n")
    assert [row for piece in pieces for row in piece.split("\n")][1:] == rows


def test_fenced_code_is_kept_whole_and_cut_at_definitions_where_it_is_too_long() -> None:
    short = "```python\ndef f():\n    return 1\n\n\ndef g():\n    return 2\n```"
    assert any(short in text for text in texts(markdown(f"# A\n\n{PROSE * 10}\n\n{short}\n\n{PROSE * 5}")))
    functions = "\n\n\n".join(f"def f{i}():\n    return '{'x' * 120}'" for i in range(9))
    pieces = texts(markdown(f"# A\n\n```python\n{functions}\n```"), SplitConfig(400, method="document"))
    assert len(pieces) > 3
    assert all(piece.count("def ") == piece.count("return") for piece in pieces)


@pytest.mark.parametrize(
    ("language", "code", "size", "starts"),
    [
        ("python", PYTHON, 250, ['"""A module."""', "import os", "LIMIT", "@cached", "# About the second."]),
        ("c", C, 200, ["#include", "/* Adds.", "int main"]),
    ],
)
def test_code_is_cut_where_definitions_begin(language: str, code: str, size: int, starts: list[str]) -> None:
    pieces = texts(ParsedDocument(code, f"text/x-{language}"), SplitConfig(size, minimum=0, method="document"))
    assert len(pieces) == len(starts)
    assert all(piece.startswith(start) for piece, start in zip(pieces, starts, strict=True))


def test_a_class_that_is_too_long_is_cut_at_its_methods() -> None:
    code = "class A:\n" + "\n\n".join(f"    def m{i}(self):\n        return '{'x' * 60}'" for i in range(8))
    pieces = texts(ParsedDocument(code, "text/x-python"), SplitConfig(220, minimum=60, method="document"))
    assert pieces[0].startswith("class A:\n    def m0")
    assert all(piece.startswith("def m") for piece in pieces[1:])


def test_hostile_code_is_split_in_linear_time() -> None:
    for code in ("{" * 20_000, '"""' * 7_001, "/*" * 10_000, "({[\n" * 5_000, "`" * 10_001, "a(\n" * 5_000):
        for language in ("python", "c", "javascript"):
            assert texts(ParsedDocument(code, f"text/x-{language}"))
