"""HTML: the content of a page without what stands around it."""

from __future__ import annotations

import pytest

from ingest.parsing.dispatch import parse

SENTENCES = " ".join(f"Sentence number {n} tells something about the rivers of the north." for n in range(12))
ARTICLE = f"""<!DOCTYPE html><html><head><title>Rivers</title><style>p {{}}</style></head><body>
<nav><a href="/">Home</a> <a href="/about">About us</a></nav>
<article><h1>Rivers</h1><p>{SENTENCES}</p><h2>Length</h2>
<p>The <b>longest</b> is <a href="x">the Nile</a>, some&nbsp;6,650 km.<sup>[1]</sup> {SENTENCES}</p>
<ul><li>Nile</li><li>Amazon</li></ul>
<table><tr><th>River</th><th>km</th></tr><tr><td>Nile</td><td>6650</td></tr></table></article>
<script>alert("x")</script><footer>Copyright</footer></body></html>"""


def test_the_main_content_is_kept_and_the_frame_is_not() -> None:
    parsed = parse("rivers.html", ARTICLE.encode())
    assert "The longest is the Nile, some 6,650 km. Sentence" in parsed.text
    assert "- Nile\n- Amazon" in parsed.text
    assert "River | km\nNile | 6650" in parsed.text
    assert not any(word in parsed.text for word in ("About us", "alert", "Copyright", "<", "**"))
    assert parsed.title == "Rivers"
    assert parsed.media_type == "text/html"


def test_headings_stand_where_they_say() -> None:
    parsed = parse("rivers.html", ARTICLE.encode())
    assert "Length" in [heading.title for heading in parsed.headings]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<html><body><p>Short.</p></body></html>", "Short."),
        (b"<p>One<br>two</p><p>Three</p>", "One\ntwo\n\nThree"),
        (b"<html><body><nav>Only a menu</nav></body></html>", "Only a menu"),
        (b"<!doctype html><title>T</title><h2>Head</h2><div>A<div>B</div>C</div>", "Head\n\nA\n\nB\n\nC"),
        (b"<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>", "1. a\n  - b\n2. c"),
        (b"<pre>x = 1\n  y = 2</pre>", "x = 1\n  y = 2"),
        ("<meta charset=iso-8859-1><p>caf\xe9</p>".encode("latin-1"), "café"),
    ],
)
def test_a_short_page_gives_all_it_shows(content: bytes, text: str) -> None:
    assert parse("page.html", content).text == text


def test_a_page_is_known_by_its_content_or_its_name() -> None:
    assert parse("page", b"<!DOCTYPE html><p>x</p>").media_type == "text/html"
    assert parse("page.htm", b"<p>x</p>").media_type == "text/html"
    assert parse("page.txt", b"a <p> in text").media_type == "text/plain"


def test_links_and_lists_in_cells_of_a_table_are_kept() -> None:
    box = (
        "<table class='infobox'><tr><th>Founders</th><td><ul><li><a href='a'>Ada</a></li><li><a href='b'>Bob</a></li>"
        "</ul></td></tr><tr><th>Seat</th><td>One Way<br><a href='c'>Springfield</a>, U.S.</td></tr></table>"
    )
    page = ARTICLE.replace("<h2>Length", f"{box}<h2>Length")
    assert "Founders | Ada, Bob\nSeat | One Way Springfield, U.S." in parse("rivers.html", page.encode()).text
