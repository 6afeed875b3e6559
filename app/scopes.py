"""Which key opens which route: the one table.

A tenant's key has scopes. `ask` searches, asks and reads what answers quote; `ingest` changes documents; `train` makes
and runs adapters and reads what people asked; `admin` does all of these, and keys, policy and what is told of the
tenant. The service's admin is the `operator`; its key opens no tenant's content. Knows routes as their method and
template; no key and no request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from fastapi import APIRouter

TenantScope = Literal["ask", "ingest", "train", "admin"]
Scope = Literal["ask", "ingest", "train", "admin", "operator", "metrics"]
TENANT_SCOPES: tuple[TenantScope, ...] = get_args(TenantScope)
OPERATOR: Literal["operator"] = "operator"
METRICS: Literal["metrics"] = "metrics"


@dataclass(frozen=True, slots=True)
class Rule:
    """What opens a route.

    Attributes:
        scopes: any one of them; none: no key is needed.
        by_collection: whether the route holds to the collections of a key that reaches only some. Other routes are
            closed to such keys.
        spends_tokens: whether the route is closed once the tenant's tokens of the day are spent.
    """

    scopes: frozenset[Scope]
    by_collection: bool = False
    spends_tokens: bool = False


def _rule(*scopes: Scope, by_collection: bool = False, spends_tokens: bool = False) -> Rule:
    return Rule(frozenset(scopes), by_collection, spends_tokens)


PUBLIC = _rule()
_ANY = _rule("ask", "ingest", "train", by_collection=True)
_ASK = _rule("ask", by_collection=True)
_ANSWER = _rule("ask", by_collection=True, spends_tokens=True)
_READ = _rule("ask", "ingest", by_collection=True)
_INGEST = _rule("ingest", by_collection=True)
_JOB = _rule("ingest", "train", by_collection=True)
_JOBS = _rule("ingest", "train")
_SETTING = _rule("ingest", "train")
_TRAIN = _rule("train")
_EVALUATE = _rule("train", spends_tokens=True)
_ADMIN = _rule("admin")
_OPERATOR = _rule(OPERATOR)
_TENANT = _rule(OPERATOR, "admin")

RULES: dict[str, Rule] = {
    "GET /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": _rule(OPERATOR, METRICS),
    "GET /key": _rule("ask", "ingest", "train", OPERATOR, by_collection=True),
    # documents
    "POST /ingest": _INGEST,
    "GET /documents": _READ,
    "POST /documents/delete": _INGEST,
    "GET /documents/{document_id}": _READ,
    "PUT /documents/{document_id}": _INGEST,
    "DELETE /documents/{document_id}": _INGEST,
    "POST /documents/{document_id}/retry": _INGEST,
    "GET /documents/{document_id}/text": _READ,
    "GET /documents/{document_id}/chunks": _READ,
    "GET /documents/{document_id}/pages/{number}.png": _READ,
    "GET /splitting": _ANY,
    "PUT /splitting": _rule("ingest"),
    # jobs
    "GET /jobs": _JOBS,
    "GET /jobs/{job_id}": _JOB,
    "GET /jobs/{job_id}/events": _JOB,
    "GET /jobs/{job_id}/loss": _TRAIN,
    "POST /jobs/{job_id}/cancel": _JOB,
    "POST /jobs/{job_id}/retry": _INGEST,
    # questions
    "POST /search": _ASK,
    "POST /ask": _ANSWER,
    "POST /v1/chat/completions": _ANSWER,
    "GET /v1/models": _rule("ask", "train", by_collection=True),
    "GET /v1/models/{model:path}": _rule("ask", "train", by_collection=True),
    "POST /feedback": _ASK,
    "GET /feedback": _TRAIN,
    "GET /feedback/export": _TRAIN,
    "DELETE /feedback/{request_id}": _TRAIN,
    # prompts
    "GET /templates": _rule("ask", "train", by_collection=True),
    "GET /templates/{name}": _rule("ask", "train", by_collection=True),
    "PUT /templates/default": _TRAIN,
    "PUT /templates/{name}": _TRAIN,
    "DELETE /templates/{name}": _TRAIN,
    # adapters
    "GET /adapters": _rule("ask", "train", by_collection=True),
    "PUT /adapters/default": _TRAIN,
    "GET /adapters/{name}": _rule("ask", "train", by_collection=True),
    "DELETE /adapters/{name}": _TRAIN,
    "POST /adapters/{name}/versions": _TRAIN,
    "GET /adapters/{name}/versions/{version}/export": _TRAIN,
    "DELETE /adapters/{name}/versions/{version}": _TRAIN,
    "POST /adapters/{name}/versions/{version}/gate": _EVALUATE,
    "POST /adapters/{name}/promote": _TRAIN,
    "POST /adapters/{name}/rollback": _TRAIN,
    "POST /adapters/{name}/pin": _TRAIN,
    "POST /adapters/{name}/canary": _TRAIN,
    "POST /adapters/{name}/train": _TRAIN,
    "POST /v1/load_lora_adapter": _TRAIN,
    "POST /v1/unload_lora_adapter": _TRAIN,
    "POST /v1/files": _TRAIN,
    "GET /v1/files": _TRAIN,
    "GET /v1/files/{dataset}": _TRAIN,
    "GET /v1/files/{dataset}/content": _TRAIN,
    "DELETE /v1/files/{dataset}": _TRAIN,
    "POST /v1/fine_tuning/jobs": _TRAIN,
    "GET /v1/fine_tuning/jobs": _TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}": _TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": _TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/events": _TRAIN,
    "POST /datasets": _TRAIN,
    "GET /datasets": _TRAIN,
    "POST /datasets/build": _TRAIN,
    "POST /datasets/judge": _EVALUATE,
    "GET /datasets/{dataset}": _TRAIN,
    "GET /datasets/{dataset}/examples": _TRAIN,
    "DELETE /datasets/{dataset}": _TRAIN,
    "POST /evaluate": _EVALUATE,
    "GET /evaluations": _TRAIN,
    "GET /evaluations/{evaluation_id}": _TRAIN,
    "GET /evaluations/{evaluation_id}/report": _TRAIN,
    "DELETE /evaluations/{evaluation_id}": _TRAIN,
    # the tenant
    "GET /policy": _rule("train", "admin"),
    "PUT /policy": _ADMIN,
    "GET /audit": _ADMIN,
    "GET /audit/verification": _ADMIN,
    "GET /tenants/{tenant_id}/audit": _TENANT,
    "GET /usage": _rule("ask", "ingest", "train", by_collection=True),
    "GET /tenants/{tenant_id}/export": _TENANT,
    "GET /tenants/{tenant_id}/usage": _TENANT,
    "GET /tenants/{tenant_id}/keys": _TENANT,
    "POST /tenants/{tenant_id}/keys": _TENANT,
    "POST /tenants/{tenant_id}/keys/{key_id}/rotate": _TENANT,
    "DELETE /tenants/{tenant_id}/keys/{key_id}": _TENANT,
    # the service
    "POST /tenants": _OPERATOR,
    "GET /tenants": _OPERATOR,
    "GET /tenants/{tenant_id}": _TENANT,
    "PATCH /tenants/{tenant_id}": _OPERATOR,
    "DELETE /tenants/{tenant_id}": _OPERATOR,
    "GET /keys": _OPERATOR,
    "POST /keys": _OPERATOR,
    "POST /keys/{key_id}/rotate": _OPERATOR,
    "DELETE /keys/{key_id}": _OPERATOR,
    "GET /backup": _OPERATOR,
}
"""``METHOD /template`` → what opens it. A route that is missing here keeps the service from starting."""


_QUESTIONS = frozenset({"POST /search", "POST /ask", "POST /v1/chat/completions"})
_TAKES_OUT = frozenset({"GET /tenants/{tenant_id}/export"})


def spread(scopes: Iterable[TenantScope]) -> frozenset[Scope]:
    """Scopes with those they imply: `admin` is all of a tenant's."""
    named = frozenset(scopes)
    return frozenset(TENANT_SCOPES) if "admin" in named else frozenset(named)


@dataclass(frozen=True, slots=True)
class RuledRoute:
    """A route with its rule; ``path`` is its template."""

    method: str
    path: str
    pattern: re.Pattern[str]
    rule: Rule

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def asks(self) -> bool:
        """Whether it looks something up or has it answered, which takes the models' time."""
        return str(self) in _QUESTIONS

    @property
    def audited(self) -> bool:
        """Whether an audit log tells of it: what changes anything, or takes everything out."""
        return (self.method != "GET" and not self.asks) or str(self) in _TAKES_OUT

    def ids(self, path: str) -> dict[str, str]:
        """What a path of this route names."""
        match = self.pattern.match(path)
        return {name: value for name, value in match.groupdict().items() if value} if match else {}


def takes_idempotency_key(route: RuledRoute) -> bool:
    """Whether a route can be sent again under a key: those that make something of a tenant's. Not keys: they are shown
    once."""
    return route.method == "POST" and route.audited and OPERATOR not in route.rule.scopes


class Rulebook:
    """The rules of an application's routes, found by method and path as its router finds them.

    Args:
        routers: in the order they are included. Those left out of the OpenAPI document are the page's files, public.

    Raises:
        LookupError: a route has no rule, or a rule no route.
    """

    def __init__(self, routers: Sequence[APIRouter]) -> None:
        self._routes = list(_ruled(routers))
        unused = RULES.keys() - {str(route) for route in self._routes}
        if unused:
            raise LookupError(f"app.scopes has rules of routes that are not there: {', '.join(sorted(unused))}")

    def find(self, method: str, path: str) -> RuledRoute | None:
        """The route that will answer; None where there is none, and the router says 404 or 405."""
        return next((r for r in self._routes if r.method == method and r.pattern.match(path)), None)


def _ruled(routers: Sequence[APIRouter]) -> Iterator[RuledRoute]:
    from fastapi.routing import APIRoute  # here: commands know scopes by name, and shall not wait for a web framework

    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute) or not route.include_in_schema or not router.include_in_schema:
                continue
            for method in sorted(route.methods or ()):
                rule = RULES.get(f"{method} {route.path}")
                if rule is None:
                    raise LookupError(f"app.scopes has no rule for {method} {route.path}")
                yield RuledRoute(method, route.path, route.path_regex, rule)
