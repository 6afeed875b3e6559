"""Fixed windows of characters: the crudest level, and the baseline of the others. Looks at nothing but white space."""

from __future__ import annotations

from ingest.splitting.chunks import Span, SplitConfig, trimmed


def character_spans(text: str, config: SplitConfig) -> list[Span]:
    """Windows of ``config.size`` characters, each beginning ``config.overlap`` before the end of the one before it.

    White space around a window is left out, so a window may be shorter; cuts fall inside words.
    """
    spans: list[Span] = []
    position, length = trimmed(text, 0, len(text))
    while position < length:
        start, end = trimmed(text, position, min(position + config.size, length))
        spans.append((start, end))
        if end >= length:
            break
        position, _ = trimmed(text, max(end - config.overlap, start + 1), length)
        if position + config.size <= end or not text[end : position + config.size].strip():
            position, _ = trimmed(text, end, length)  # what would follow is white space: nothing to overlap with
    return spans
