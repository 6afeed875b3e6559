"""The one table of which key opens which route: complete, and read as the router reads paths."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from app.main import ROUTERS
from app.scopes import RULES, Rulebook, spread
from tests.app.openapi import operations


def test_every_route_of_the_openapi_document_has_a_rule() -> None:
    assert set(operations()) == {rule.replace(":path", "") for rule in RULES}


def test_a_route_without_a_rule_keeps_the_service_from_starting() -> None:
    router = APIRouter()
    router.add_api_route("/new", lambda: None, methods=["POST"])
    with pytest.raises(LookupError, match="POST /new"):
        Rulebook([*ROUTERS, router])
    with pytest.raises(LookupError, match="GET /livez"):
        Rulebook([])


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("PUT", "/adapters/default", "/adapters/default"),
        ("GET", "/adapters/default", "/adapters/{name}"),
        ("POST", "/datasets/build", "/datasets/build"),
        ("POST", "/documents/delete", "/documents/delete"),
        ("GET", "/v1/models/a/b", "/v1/models/{model:path}"),
        ("GET", "/documents/x/pages/3.png", "/documents/{document_id}/pages/{number}.png"),
    ],
)
def test_a_path_is_ruled_by_the_route_that_answers_it(method: str, path: str, template: str) -> None:
    found = Rulebook(ROUTERS).find(method, path)
    assert found is not None
    assert found.path == template


def test_what_no_route_answers_has_no_rule() -> None:
    book = Rulebook(ROUTERS)
    assert book.find("GET", "/nowhere") is None
    assert book.find("PATCH", "/ingest") is None
    assert book.find("GET", "/documents/x/") is None


def test_admin_implies_the_tenants_other_scopes_and_never_the_operators() -> None:
    assert spread(["admin"]) == {"ask", "ingest", "train", "admin"}
    assert spread(["ask"]) == {"ask"}
