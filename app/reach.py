"""What a key for some collections reaches: narrows searches and listings to them, and hides the rest.

Pure functions of the key and what is asked for. Knows no rows and no HTTP but its problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from app.keys import Principal
from app.problems import Problem
from app.schemas import AskRequest, SearchRequest

DEFAULT_COLLECTION = "default"
Asked = TypeVar("Asked", AskRequest, SearchRequest)


def reaches(principal: Principal, collection: str) -> bool:
    """Whether a key reaches a collection."""
    return principal.collections is None or collection in principal.collections


def refuse_others(principal: Principal, collections: Iterable[str]) -> None:
    """Raise Problem 403 unless the key reaches all of the collections."""
    if not all(reaches(principal, each) for each in collections):
        named = ", ".join(sorted(principal.collections or ()))
        raise Problem(403, "collection_forbidden", f"This key reaches only these collections: {named}. Name one.")


def home(principal: Principal) -> str:
    """The collection of documents that name none: the key's, where it has just one."""
    if principal.collections is not None and len(principal.collections) == 1:
        return next(iter(principal.collections))
    return DEFAULT_COLLECTION


def narrowed(
    principal: Principal, collection: str | None, condition: Mapping[str, Any] | None
) -> tuple[str | None, Mapping[str, Any] | None]:
    """Collection and filter of a search or deletion, so that it stays in what the key reaches. Raises Problem 403."""
    if principal.collections is None:
        return collection, condition
    if collection is not None:
        refuse_others(principal, [collection])
        return collection, condition
    if len(principal.collections) == 1:
        return home(principal), condition
    within = {"document.collection": {"in": sorted(principal.collections)}}
    return None, {"and": [within, condition]} if condition else within


def narrowed_request(principal: Principal, body: Asked) -> Asked:
    """A question or search that stays in what the key reaches. Raises Problem 403."""
    collection, condition = narrowed(principal, body.collection, body.filter)
    if (collection, condition) == (body.collection, body.filter):
        return body
    return body.model_copy(update={"collection": collection, "filter": condition})
