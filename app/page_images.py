"""Pages of PDFs as images, drawn one at a time in a child process of their own.

Knows how many may wait, so that pages never take the threads that questions need. Knows no document and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ingest import PageImage, ParserProcess, UnreadableDocument


class PageImageError(Exception):
    """Root of what can go wrong with a page's image."""


class NoPageImage(PageImageError):
    """There is no such page, or the document is no PDF that can be opened."""


class TooManyPages(PageImageError):
    """Too many pages wait to be drawn."""


class PageImages:
    """Draws pages.

    Args:
        parser: the child process; this closes it.
        most_waiting: how many pages may wait or be drawn at once.
    """

    def __init__(self, parser: ParserProcess, most_waiting: int = 32) -> None:
        self._parser = parser
        self._turn = asyncio.Lock()
        self._most_waiting = most_waiting
        self._waiting = 0

    async def draw(self, read: Callable[[], tuple[bytes, str]], number: int, width: int) -> PageImage:
        """Page ``number`` of a PDF, ``width`` pixels wide.

        Args:
            read: gives the PDF and a quote to be marked, in a thread; called when the page has its turn, so that
                documents do not wait in memory.

        Raises:
            NoPageImage, TooManyPages: see there.
        """
        if self._waiting >= self._most_waiting:
            raise TooManyPages("Many pages wait to be drawn; try again in a moment.")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(lambda: self._draw(*read(), number, width))
        except UnreadableDocument as error:
            raise NoPageImage(f"There is no image of this page: {error}.") from error
        finally:
            self._waiting -= 1

    def _draw(self, content: bytes, quote: str, number: int, width: int) -> PageImage:
        return self._parser.page(content, number, width, quote)

    def close(self) -> None:
        """End the child process."""
        self._parser.close()
