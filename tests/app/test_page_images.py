"""Pages are drawn one at a time, and only so many may wait."""

from __future__ import annotations

import asyncio

import pytest

from app.page_images import PageImages, TooManyPages
from ingest import ParserProcess
from tests.ingest.parsing.files import pdf


def test_too_many_waiting_pages_of_one_owner_are_refused_and_the_others_drawn() -> None:
    images = PageImages(ParserProcess(timeout_seconds=60), most_waiting=4)
    read_at_once = 0
    most_at_once = 0

    def read() -> tuple[bytes, str]:
        nonlocal read_at_once, most_at_once
        read_at_once += 1
        most_at_once = max(most_at_once, read_at_once)
        content = pdf(["One"])
        read_at_once -= 1
        return content, ""

    async def ask() -> list[object]:
        return await asyncio.gather(*(images.draw(whose, read, 1, 200) for whose in "aaabb"), return_exceptions=True)

    try:
        drawn = asyncio.run(ask())
    finally:
        images.close()
    assert [isinstance(one, TooManyPages) for one in drawn] == [False, False, True, False, True]
    assert most_at_once == 1
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(images.draw("a", read, 1, 200))
