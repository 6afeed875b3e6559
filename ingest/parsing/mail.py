"""E-mail (EML): who wrote to whom, when and what; attachments by name.

Knows the email module. Attachments are named and not read: sent as files of their own they are documents of their own.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import EmailMessage, Message

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import EMAIL
from ingest.parsing.document import ParsedDocument, TextBuilder, one_line, squeeze_spaces
from ingest.parsing.plain import decode
from ingest.parsing.web import write_html

_SHOWN = ("From", "To", "Cc", "Date")
_MOST_PARTS = 1_000


def parse_mail(content: bytes) -> ParsedDocument:
    """A message: its subject as the heading, its header, its text, the names of its attachments.

    Raises:
        UnreadableDocument: it has more parts than any real message.
    """
    message = email.message_from_bytes(content, policy=email.policy.default)
    builder = TextBuilder()
    subject = _header(message, "Subject")
    builder.heading(1, subject)
    lines = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
    builder.block("\n".join(lines))
    bodies, attachments = _parts(message)
    if bodies["text/plain"]:
        for part in bodies["text/plain"]:
            builder.block(squeeze_spaces(_text(part)))
    else:
        for part in bodies["text/html"]:
            write_html(_text(part), builder)
    builder.block("\n".join(f"Attachment: {_attachment(part)}" for part in attachments))
    return builder.finish(EMAIL, subject)


def _parts(message: Message) -> tuple[dict[str, list[Message]], list[Message]]:
    """The parts that are the message's own text, by type, and those that are attached to it."""
    bodies: dict[str, list[Message]] = {"text/plain": [], "text/html": []}
    attachments: list[Message] = []
    for number, part in enumerate(_leaves(message)):
        if number >= _MOST_PARTS:
            raise UnreadableDocument(f"the message has more than {_MOST_PARTS} parts")
        kind = part.get_content_type()
        attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
        if kind in bodies and not attached:
            bodies[kind].append(part)
        elif attached or part.get_content_maintype() not in {"text", "multipart"}:
            attachments.append(part)
    return bodies, attachments


def _leaves(message: Message) -> Iterator[Message]:
    """The parts of a message, without going into a message that is attached to it."""
    waiting: list[Message] = [message]
    while waiting:
        part = waiting.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            waiting.extend(each for each in reversed(payload) if isinstance(each, Message))
        else:
            yield part


def _header(message: Message, name: str) -> str:
    """A header's value; a malformed one as far as it can be read."""
    try:
        value = message.get(name)
        return one_line(str(value)) if value is not None else ""
    except Exception:  # the email module raises whatever a malformed header makes it
        raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
        with contextlib.suppress(Exception):
            raw = str(make_header(decode_header(raw)))
        return one_line(raw)


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else str(part.get_payload()).encode("utf-8", "surrogateescape")
    charset = part.get_content_charset()
    if charset is not None:
        with contextlib.suppress(LookupError, UnicodeDecodeError):
            return content.decode(charset)
    return decode(content) if content.strip() else ""


def _attachment(part: Message) -> str:
    kind = part.get_content_type()
    if kind == "message/rfc822":
        inner = part.get_payload()
        attached = inner[0] if isinstance(inner, list) and inner else None
        name = part.get_filename() or (_header(attached, "Subject") if isinstance(attached, EmailMessage) else "")
    else:
        name = part.get_filename() or ""
    return f"{one_line(name) or 'without a name'} ({kind})"
