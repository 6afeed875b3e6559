"""The OpenAPI document's operations, without a running server."""

from __future__ import annotations

from fastapi import FastAPI

from app.main import ROUTERS


def operations() -> list[str]:
    """``METHOD /template`` of every operation there is."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    paths = app.openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
