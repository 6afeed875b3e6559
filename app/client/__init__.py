"""The Python client of the HTTP contract, synchronous and asynchronous: what the command line, the demo and the
measurements use, and what your code can use.

Knows routes and response shapes; knows nothing of what stands behind them. Every error is a `ServiceError`.
"""

from app.client.calls import ServiceError, StreamEvent, read_events
from app.client.clients import AsyncLorebaseClient, LorebaseClient
from app.client.requests import ADAPTER_FILES, GivenText, Text

__all__ = [
    "ADAPTER_FILES",
    "AsyncLorebaseClient",
    "GivenText",
    "LorebaseClient",
    "ServiceError",
    "StreamEvent",
    "Text",
    "read_events",
]
