"""Pages of PDFs as images, drawn one at a time in a child process of their own.

Knows how many may wait, and that tenants take turns; pages never take the threads that questions need. Knows no
document and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from adapters.errors import QueueFull
from app.places import Places
from app.turns import Turns
from ingest import PageImage, ParserProcess, UnreadableDocument


class PageImageError(Exception):
    """Root of what can go wrong with a page's image."""


class NoPageImage(PageImageError):
    """There is no such page, or the document is no PDF that can be opened."""


class TooManyPages(PageImageError):
    """Too many pages wait to be drawn, or too many of this tenant.

    Attributes:
        retry_seconds: when to try again.
    """

    def __init__(self, message: str, retry_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class PageImages:
    """Draws pages.

    Args:
        parser: the child process; this closes it.
        most_waiting: how many pages may wait or be drawn at once, of all tenants together.
    """

    def __init__(self, parser: ParserProcess, most_waiting: int = 32) -> None:
        self._parser = parser
        self._places = Places(most_waiting, "pages")
        self._turns = Turns(1)

    async def draw(self, share_key: str, read: Callable[[], tuple[bytes, str]], number: int, width: int) -> PageImage:
        """Page ``number`` of a PDF, ``width`` pixels wide.

        Args:
            share_key: whose page it is.
            read: gives the PDF and a quote to be marked, in a thread; called when the page has its turn, so that
                documents do not wait in memory.

        Raises:
            NoPageImage, TooManyPages: see there.
        """
        try:
            with self._places.take(share_key), await self._turns.begin(share_key):
                return await asyncio.to_thread(lambda: self._draw(*read(), number, width))
        except QueueFull as error:
            raise TooManyPages(str(error), error.retry_seconds) from error
        except UnreadableDocument as error:
            raise NoPageImage(f"There is no image of this page: {error}.") from error

    def _draw(self, content: bytes, quote: str, number: int, width: int) -> PageImage:
        return self._parser.page(content, number, width, quote)

    def close(self) -> None:
        """End the child process."""
        self._parser.close()
