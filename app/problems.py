"""Errors as a client sees them: RFC 9457 problem JSON with a stable `code` and a `detail` that says what to do.

One table maps the packages' errors to status and code. No response ever carries a stack trace or what was sent.
"""

from __future__ import annotations

import errno
import logging
import math
import re
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Scope

from adapters import errors as adapter_errors
from app import datasets, page_images, tasks, templates
from app.life import errors as life_errors
from app.limits import QuotaExceeded, seconds_left_today
from ingest import errors as ingest_errors

_log = logging.getLogger("lorebase.problems")
_CODES = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
          409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "invalid_request",
          429: "too_many_requests", 503: "unavailable", 507: "storage_full"}  # fmt: skip
PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "An error, as RFC 9457 has it. Further fields depend on the code.",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; for programs."},
        "detail": {"type": "string", "minLength": 1, "description": "What to do, for people."},
        "request_id": {"type": ["string", "null"]},
    },
}
PROBLEM_RESPONSE = {
    "description": "Anything else is a problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class Problem(HTTPException):
    """An error with its status, code, and further fields for the problem JSON."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code
        self.fields = fields


def not_found(what: str) -> Problem:
    """The one answer for a foreign, malformed or unknown id."""
    return Problem(404, "not_found", f"There is no such {what}.")


def openai_error(problem: Problem) -> dict[str, Any]:
    """The problem in the shape that clients of OpenAI's API know."""
    kind = _OPENAI_TYPES.get(problem.status_code, "server_error" if problem.status_code >= 500 else None)
    return {"message": problem.detail, "type": kind or "invalid_request_error", "code": problem.code, "param": None}


def problem_response(problem: Problem, scope: Scope) -> JSONResponse:
    """The problem as the response to a request; under /v1/ it also holds ``error`` in OpenAI's shape."""
    request_id = scope.get("state", {}).get("request_id")
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": problem.code.replace("_", " "),
        "status": problem.status_code,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.fields,
    }
    if scope["path"].startswith("/v1/"):
        body["error"] = openai_error(problem)
    headers = {**(problem.headers or {}), **({"X-Request-Id": request_id} if request_id else {})}
    return JSONResponse(body, problem.status_code, headers=headers, media_type="application/problem+json")


# What each known error becomes. A subclass is found under its own line or its parent's.
_PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    adapter_errors.UnknownAdapter: (404, "unknown_adapter"),
    adapter_errors.InvalidAdapter: (422, "invalid_adapter"),
    adapter_errors.InvalidAdapterName: (422, "invalid_adapter_name"),
    adapter_errors.NoActiveVersion: (409, "no_active_version"),
    adapter_errors.VersionInUse: (409, "version_in_use"),
    adapter_errors.NoEarlierVersion: (409, "no_earlier_version"),
    adapter_errors.TooManyVersions: (403, "quota_exceeded"),
    adapter_errors.AdapterFilesUnavailable: (503, "adapter_store_unavailable"),
    adapter_errors.AdapterStoreFull: (507, "storage_full"),
    adapter_errors.AdapterFilesDamaged: (503, "adapter_files_damaged"),
    adapter_errors.RegistryDamaged: (503, "damaged"),
    adapter_errors.AdapterMemoryFull: (409, "adapter_memory_full"),
    adapter_errors.RequestTooLong: (422, "too_long"),
    adapter_errors.InvalidTemplate: (422, "invalid_template"),
    adapter_errors.InvalidTrainingData: (422, "invalid_training_data"),
    adapter_errors.NotSupported: (422, "not_supported"),
    adapter_errors.QueueFull: (429, "queue_full"),
    adapter_errors.UpstreamUnavailable: (503, "upstream_unavailable"),
    adapter_errors.UpstreamFailed: (502, "upstream_failed"),
    adapter_errors.ModelFailed: (503, "model_failed"),
    adapter_errors.ModelUnavailable: (503, "model_unavailable"),
    datasets.UnknownDataset: (404, "not_found"),
    datasets.InvalidDatasetName: (422, "invalid_dataset_name"),
    datasets.DatasetExists: (409, "dataset_exists"),
    datasets.TooManyDatasets: (409, "too_many_datasets"),
    tasks.TooManyTasks: (429, "too_many_pending"),
    life_errors.GateRequired: (409, "gate_required"),
    life_errors.VersionTainted: (409, "adapter_tainted"),
    templates.UnknownTemplate: (404, "unknown_template"),
    templates.InvalidTemplateName: (422, "invalid_template_name"),
    templates.TooManyTemplates: (409, "too_many_templates"),
    ingest_errors.EmbedderUnavailable: (503, "model_unavailable"),
    ingest_errors.RerankerUnavailable: (409, "reranker_unavailable"),
    ingest_errors.InvalidFilter: (422, "invalid_filter"),
    ingest_errors.UnknownDocument: (404, "not_found"),
    ingest_errors.DatabaseClosed: (503, "unavailable"),
    ingest_errors.DatabaseUnavailable: (503, "database_unavailable"),
    ingest_errors.DatabaseFull: (507, "storage_full"),
    ingest_errors.InvalidDocument: (422, "invalid_document"),
    ingest_errors.SameContentElsewhere: (409, "same_content_elsewhere"),
    ingest_errors.NothingToRetry: (409, "nothing_to_retry"),
    page_images.NoPageImage: (404, "no_page_image"),
    page_images.TooManyPages: (429, "too_many_pages"),
    ingest_errors.DocumentNotReady: (409, "document_not_ready"),
    ingest_errors.SplitUnavailable: (422, "split_unavailable"),
    ingest_errors.IndexMismatch: (409, "index_mismatch"),
    ingest_errors.DamagedData: (503, "damaged"),
    ingest_errors.IncompatibleDatabase: (503, "newer_database"),
}
CODES = frozenset({*_CODES.values(), *(code for _, code in _PROBLEMS.values())})
"""The codes of this table; further ones are given where a :class:`Problem` is raised."""
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MISPLACED = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_SQLITE_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_NOT_AS_MADE = re.compile("no such (table|column)|decode to UTF-8")  # SQL is constant: then the schema is not
_SQLITE_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_RETRY_SECONDS = {429: "1", 503: "2"}
_LONGEST_DETAIL = 1000
_FIELDS = ("reason", "available", "document_id", "limit", "used", "advice")  # attributes of errors that clients can use


def problem_of(error: Exception) -> Problem:
    """The problem a known error stands for; an unknown one is logged and becomes a plain 500."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QuotaExceeded):
        return _over_quota(error)
    if isinstance(error, StarletteHTTPException):
        return Problem(error.status_code, _CODES.get(error.status_code, "error"), _detail(error), error.headers)
    for kind in type(error).__mro__:
        if kind in _PROBLEMS:
            status, code = _PROBLEMS[kind]
            headers = _retry_after(error, status)
            fields = {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)}
            detail = str(error)[:_LONGEST_DETAIL]
            if kind is ingest_errors.UnknownDocument:
                detail = "There is no such document."
            return Problem(status, code, detail, headers, **fields)
    if isinstance(error, OSError | sqlite3.Error) and (problem := _of_the_disk(error)) is not None:
        _log.warning("the disk: %s", error)
        return problem
    _log.error("unexpected error", exc_info=error)
    return Problem(500, "internal", "Something went wrong on the server; its log says what, under the request id.")


def _retry_after(error: Exception, status: int) -> dict[str, str]:
    """When to try again: as the error says, else soon; nothing where trying again does not help."""
    if (seconds := getattr(error, "retry_seconds", None)) is not None:
        return {"Retry-After": str(max(1, math.ceil(seconds)))}
    return {"Retry-After": _RETRY_SECONDS[status]} if status in _RETRY_SECONDS else {}


def _of_the_disk(error: OSError | sqlite3.Error) -> Problem | None:
    """The problem of a disk that takes nothing, or gives something else back; None for any other error."""
    if isinstance(error, OSError):
        full, refused, damaged = error.errno in _FULL, error.errno in _REFUSED, error.errno in _MISPLACED
    else:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds in its higher bits
        full, refused = code == sqlite3.SQLITE_FULL, code in _SQLITE_REFUSED
        damaged = code in _SQLITE_DAMAGED or _NOT_AS_MADE.search(str(error)) is not None
    if damaged:
        detail = (
            f"This tenant's {'folder' if isinstance(error, OSError) else 'database'} is damaged. The operator can "
            "restore a backup, and `lorebase doctor` says what is wrong; other tenants are not affected."
        )
        return Problem(503, "damaged", detail, {"Retry-After": "60"})
    if full:
        return Problem(507, "storage_full", "The server's disk is full. Nothing was stored; try again later.")
    if refused:
        detail = "The server cannot write its data folder. Nothing was stored; try again later."
        return Problem(507, "storage_refused", detail)
    return None


def _over_quota(error: QuotaExceeded) -> Problem:
    """403 for what one may not have more of, 429 for what a new day brings again."""
    fields: dict[str, Any] = {"quota": error.quota, "limit": error.limit, "used": error.used}
    if error.quota.endswith("_per_day"):
        again = str(math.ceil(seconds_left_today(time.time())))
        return Problem(429, "quota_exceeded", str(error), {"Retry-After": again}, **fields)
    return Problem(403, "quota_exceeded", str(error), **fields)


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` with problem JSON."""

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        return problem_response(problem_of(error), request.scope)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return problem_response(_invalid_request(error), request.scope)

    for kind in (
        StarletteHTTPException,
        adapter_errors.AdapterError,
        ingest_errors.IngestError,
        datasets.DatasetError,
        tasks.TooManyTasks,
        templates.TemplateError,
        life_errors.LifeError,
        page_images.PageImageError,
        QuotaExceeded,
        OSError,
        sqlite3.Error,
        Exception,
    ):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)


_MESSAGES = {
    "json_invalid": "is not valid JSON",
    "model_attributes_type": "must be a JSON object, sent as Content-Type: application/json",
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request; see /docs for those there are",
}


def _invalid_request(error: RequestValidationError) -> Problem:
    fields = [
        {
            "field": ".".join(str(p) for p in e["loc"] if p != "body" and e["type"] != "json_invalid")[:200] or "body",
            "message": _MESSAGES.get(e["type"], _plain(e["msg"])),
        }
        for e in error.errors()
    ]
    detail = "; ".join(f"{f['field']}: {f['message']}" for f in fields[:5])
    return Problem(422, "invalid_request", detail, errors=fields[:20])


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message.startswith("Expected UploadFile"):
        return "must be a file with a name, sent as multipart/form-data"
    return message.encode("utf-8", "replace").decode()


def _detail(error: StarletteHTTPException) -> str:
    if error.status_code == 404:
        return "There is nothing at this address; see /docs for what there is."
    if error.status_code == 400 and error.detail == "There was an error parsing the body":
        return "The body is not valid JSON in UTF-8."
    return str(error.detail)
