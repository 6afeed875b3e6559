"""Text out of pictures: scanned pages and images, read by RapidOCR where the extra ``ocr`` is installed.

Its models ship in its package; nothing is fetched. Knows pixels and the places of lines; what lines mean is decided in
``ingest.parsing.page_layout``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UnreadableDocument
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder
from ingest.parsing.page_layout import Line, blocks, body_size, words_of

DOTS_PER_POINT = 150 / 72
_MOST_PIXELS = 40_000_000
_LEAST_SIDE = 16  # pixels; nothing smaller holds a letter
_COLUMN_LINES = 3  # on either side of the middle, at least
_COLUMN_CHARACTERS = 20  # on average; shorter pieces are cells of rows

Pixels = NDArray[np.uint8]


def parse_image(content: bytes, kind: str, limits: ParseLimits) -> ParsedDocument:
    """The text of an image; the frames of a TIFF are its pages.

    Raises:
        UnreadableDocument: the image is damaged, too large, or holds no text.
    """
    what = f"the {kind.removeprefix('image/').upper()} image"
    pages: list[list[Line]] = []
    try:
        for number, pixels in enumerate(_frames(content, what), start=1):
            if number > limits.pages:
                raise UnreadableDocument(f"{what} has more than {limits.pages} pages; split it")
            pages.append(lines_of(pixels))
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableDocument(f"{what} is damaged and cannot be opened") from error
    if not any(pages):
        raise UnreadableDocument(f"no text was found in {what}")
    builder = TextBuilder()
    body, words = body_size(pages), words_of(pages)
    for number, lines in enumerate(pages, start=1):
        start: int | None = None
        for block in blocks(lines, [], {}, body, words):
            at = builder.block(block.text, "\n" if block.close and start is not None else "\n\n")
            start = at if start is None else start
        builder.page(number, builder.length if start is None else start)
    return builder.finish(kind)


def lines_of(pixels: Pixels) -> list[Line]:
    """The lines of a page in reading order, its pixels uint8 ``[height, width, 3]`` at `DOTS_PER_POINT`."""
    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        return []
    found = _engine()(pixels)
    if found.txts is None or found.boxes is None:
        return []
    lines = []
    for text, box in zip(found.txts, np.asarray(found.boxes, dtype=float), strict=True):  # box [4, 2]: x, y
        (left, top), (right, bottom) = box.min(axis=0) / DOTS_PER_POINT, box.max(axis=0) / DOTS_PER_POINT
        if text.strip():
            whole = " ".join(text.split())
            lines.append(
                Line(whole, float(left), float(right), float(height / DOTS_PER_POINT - bottom), float(bottom - top))
            )
    return in_reading_order(lines, width / DOTS_PER_POINT / 2)


def in_reading_order(lines: Sequence[Line], middle: float) -> list[Line]:
    """Lines from the top down; where a page is set in two columns, the left one before the right one.

    Lines that cross the middle of the page end a stretch of columns. What is side by side in short pieces is a row of
    a table or form: one line, its pieces divided by ``|``.
    """
    ordered: list[Line] = []
    stretch: list[Line] = []
    for line in sorted(lines, key=lambda line: -(line.baseline + line.size)):
        if line.left < middle < line.right:
            ordered += _stretch(stretch, middle)
            ordered.append(line)
            stretch = []
        else:
            stretch.append(line)
    return ordered + _stretch(stretch, middle)


def _stretch(lines: Sequence[Line], middle: float) -> list[Line]:
    sides = [line for line in lines if line.right <= middle], [line for line in lines if line.left >= middle]
    if all(len(side) >= _COLUMN_LINES and _average(side) >= _COLUMN_CHARACTERS for side in sides):
        return [*sides[0], *sides[1]]
    return _rows(lines)


def _average(lines: Sequence[Line]) -> float:
    return sum(len(line.text) for line in lines) / len(lines)


def _rows(lines: Sequence[Line]) -> list[Line]:
    rows: list[list[Line]] = []
    for line in lines:
        if rows and abs(rows[-1][0].baseline - line.baseline) < line.size / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    joined = []
    for row in rows:
        row.sort(key=lambda line: line.left)
        text = " | ".join(line.text for line in row)
        joined.append(Line(text, row[0].left, row[-1].right, row[0].baseline, row[0].size, len(row)))
    return joined


def _frames(content: bytes, what: str) -> Iterator[Pixels]:
    from PIL import Image, ImageSequence

    Image.MAX_IMAGE_PIXELS = None  # checked here, before anything is decoded
    with Image.open(io.BytesIO(content)) as image:
        for frame in ImageSequence.Iterator(image):
            if frame.width * frame.height > _MOST_PIXELS:
                raise UnreadableDocument(
                    f"{what} has {frame.width} × {frame.height} pixels, more than {_MOST_PIXELS} in all; scale it down"
                )
            yield np.asarray(frame.convert("RGB"), dtype=np.uint8)[:, :, ::-1]  # [h, w, 3], blue first


@cache
def _engine() -> Any:
    from rapidocr import EngineType, RapidOCR

    # OpenVINO does not fit the memory that one file may take.
    kinds = {f"{part}.engine_type": EngineType.ONNXRUNTIME for part in ("Det", "Cls", "Rec")}
    return RapidOCR(params={**kinds, "Global.log_level": "error"})
