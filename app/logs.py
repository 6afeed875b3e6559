"""Log lines for people or machines. Only fields listed here are written, so no question, document or key can be."""

from __future__ import annotations

import json
import logging
import time
from contextvars import ContextVar
from typing import Literal

FIELDS = ("request_id", "tenant", "job", "document", "method", "path", "status", "ms", "stages", "model", "base")
current_request: ContextVar[str | None] = ContextVar("current_request", default=None)
"""The id of the request that is being answered; every line logged meanwhile carries it."""
_LIBRARIES = ("httpx", "sentence_transformers", "transformers", "faiss", "urllib3", "pdfminer", "trafilatura")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_on_one_line(str(value))}" for name, value in _fields(record).items())
        return f"{super().format(record)} {fields}".rstrip()


def _on_one_line(value: str) -> str:
    """The value as it is, or quoted where it could pass for another line or field, or move a terminal."""
    return value if value.isprintable() and " " not in value else json.dumps(value)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
    if "request_id" not in found and (request_id := current_request.get()) is not None:
        found = {"request_id": request_id, **found}
    return found


def configure_logs(form: Literal["text", "json"], level: str) -> None:
    """Send the service's log to stderr in one form."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonLines() if form == "json" else _TextLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # the service writes its own line per request
