"""The whole model server as a Ray Serve application, for clusters that run such applications by themselves (KubeRay):
HTTP comes in through Ray's proxies, and `Api` is a replica among others.

Knows Ray Serve's way of building applications; what it builds is the same API over the same replicas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from app.model_server.api import create_model_app
from app.model_server.catalogue import Catalogue
from app.model_server.ray_backend import RayBackend
from app.model_server.ray_cluster import Replicas, ServiceArguments, model_application
from app.settings import Settings


class Api:
    """The HTTP API, in a replica of its own. Its key is the node's LOREBASE_MODEL_SERVER_KEY."""

    async def __init__(self, model: DeploymentHandle[Any], adapters: Path) -> None:  # type: ignore[misc]  # Ray waits
        self._backend = RayBackend(model, await model.described.remote(), local=False)
        self._adapters = adapters

    def __serve_build_asgi_app__(self) -> ASGIApp:
        settings = Settings()
        if settings.model_server_key is None:
            raise RuntimeError("Others reach this: set LOREBASE_MODEL_SERVER_KEY on every node.")
        key = settings.model_server_key.get_secret_value()
        return create_model_app(
            self._backend, Catalogue(self._adapters), key=key, max_body_bytes=settings.max_body_bytes
        )


def build(arguments: ServiceArguments) -> Application:
    """The application. `serve run app.model_server.ray_service:build model=… adapters=…` runs it."""
    settings = Settings(model=arguments.model, dtype=arguments.dtype)
    replicas = Replicas(
        arguments.replicas,
        max(arguments.replicas, arguments.max_replicas),
        processors=arguments.cpus,
        gpus=arguments.gpus,
    )
    api = serve.deployment(
        name="api",
        num_replicas=1,  # it knows which adapters were loaded
        max_ongoing_requests=4 * (settings.max_batch + settings.max_waiting),
        ray_actor_options={"num_cpus": 0.1},
    )(serve.ingress()(Api))
    return api.bind(model_application(settings, replicas), arguments.adapters)
