"""E-mail: header, text, and the names of what is attached."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse


def message(**headers: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in headers.items():
        made[name] = value
    return made


def test_a_message_is_its_header_its_text_and_its_attachments() -> None:
    made = message(
        Subject="Grüße aus Wien", From="Ada <ada@x.org>", To="bob@x.org", Date="Mon, 3 Feb 2025 10:00:00 +0100"
    )
    made.set_content("Dear Bob,\n\nthe fee is 40 euros.\n")
    made.add_alternative("<p>Dear Bob, the fee is 40 euros.</p>", subtype="html")
    made.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    forwarded = message(Subject="The offer", From="c@x.org")
    forwarded.set_content("inside")
    made.add_attachment(forwarded)
    parsed = parse("a.eml", made.as_bytes())
    assert parsed.text == (
        "Grüße aus Wien\n\nFrom: Ada <ada@x.org>\nTo: bob@x.org\nDate: Mon, 03 Feb 2025 10:00:00 +0100\n\n"
        "Dear Bob,\n\nthe fee is 40 euros.\n\n"
        "Attachment: Rechnung März.pdf (application/pdf)\nAttachment: The offer (message/rfc822)"
    )
    assert parsed.title == "Grüße aus Wien"
    assert [heading.title for heading in parsed.headings] == ["Grüße aus Wien"]


def test_a_message_in_html_is_converted() -> None:
    made = message(Subject="News", From="a@x.org", To="b@x.org")
    made.set_content(
        "<table><tr><td>Open</td><td>9 to 5</td></tr></table><p>See <a href='x'>you</a>.</p>", subtype="html"
    )
    assert parse("a.eml", made.as_bytes()).text.endswith("Open | 9 to 5\n\nSee you.")


@pytest.mark.parametrize("charset", ["no-such-charset", "utf-8", "us-ascii"])
def test_a_wrong_charset_does_not_lose_the_text(charset: str) -> None:
    content = (
        f"From: a@x.org\nSubject: x\nContent-Type: text/plain; charset={charset}\n\n".encode() + b"caf\xe9 au lait"
    )
    assert parse("a.eml", content).text.endswith("café au lait")


def test_malformed_headers_are_read_as_far_as_they_go() -> None:
    content = b"From: =?utf-8?q?a\x00?= <@@>\nTo: ,;<\nSubject: =?x?b?!?=\nDate: never\n\nStill text."
    assert parse("a.eml", content).text.endswith("Still text.")


def test_a_message_cut_off_in_the_middle_keeps_what_came() -> None:
    made = message(Subject="Long", From="a@x.org", To="b@x.org")
    made.set_content("The fee is 40 euros.")
    made.add_attachment(b"x" * 900, maintype="application", subtype="pdf", filename="a.pdf")
    text = parse("a.eml", made.as_bytes()[:700]).text
    assert "The fee is 40 euros." in text


def test_a_message_nested_without_end_is_refused_or_read() -> None:
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000))
    with pytest.raises(UnreadableDocument):
        parse("a.eml", b"From: a@x.org\nSubject: \n" + parts)
