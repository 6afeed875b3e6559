"""What the tests share: one real server process, and a fresh tenant of it for every test that wants one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from app.local_server import LocalServer, local_server
from reliability.rows import SETTINGS
from tests.databases import (  # noqa: F401 - fixtures
    ON_POSTGRESQL,
    central,
    database,
    fresh_database,
    postgres,
    postgres_superuser,
    vector_postgres,
)
from tests.distribution import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401 - hooks
from tests.object_stores import s3  # noqa: F401 - a fixture

METRICS_KEY = "a-key-for-metrics-alone"
AT_ONCE = {"LOREBASE_TRAINING_NICENESS": "0"}  # trainings are waited for: they stand back for no other process's tests


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A real server process with a data folder of its own; with LOREBASE_TEST_STORAGE=postgresql its rows are there."""
    settings = {**SETTINGS, **AT_ONCE, "LOREBASE_METRICS_KEY": METRICS_KEY}
    with ExitStack() as stack:
        if ON_POSTGRESQL:
            superuser = request.getfixturevalue("postgres_superuser")
            settings["LOREBASE_DATABASE_URL"] = stack.enter_context(fresh_database(superuser))
        yield stack.enter_context(local_server(environment=settings))


@pytest.fixture
def admin(server: LocalServer) -> Iterator[httpx.Client]:
    """Speaks with the admin key."""
    with _client(server.url, server.admin_key) as client:
        yield client


@pytest.fixture
def tenant(server: LocalServer, admin: httpx.Client) -> Iterator[httpx.Client]:
    """Speaks with the key of a tenant made for this test."""
    with _client(server.url, new_tenant(admin)) as client:
        yield client


@pytest.fixture
def other_tenant(server: LocalServer, admin: httpx.Client) -> Iterator[httpx.Client]:
    """Speaks with the key of a second tenant."""
    with _client(server.url, new_tenant(admin)) as client:
        yield client


def new_tenant(admin: httpx.Client) -> str:
    """A new tenant's key."""
    response = admin.post("/tenants", json={"name": f"tenant {uuid.uuid4().hex[:8]}"})
    assert response.status_code == 201, response.text
    return str(response.json()["api_key"])


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
