"""The model's replicas on Ray: a Ray of our own on this machine, or one that is there already.

Knows how Ray is started, joined and told of the deployment; knows no rows.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.model_server.backend import Backend
from app.server import CannotServe
from app.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle

APPLICATION = "lorebase-model"
DEPLOYMENT = "model"
_ENGINE_FIELDS = frozenset({
    "model", "dtype", "quantize", "merge_after", "max_batch", "max_waiting", "kv_memory_mb", "prefill_tokens",
    "adapter_memory_mb", "log_format", "log_level",
})  # fmt: skip
_OBJECT_STORE_BYTES = 100 * 1024**2  # rows and answers are small
_NAMESPACE = "lorebase"
_REACH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many copies of the model there are, and what each takes.

    Attributes:
        most: up to so many when rows queue up; the same as ``least``: never more.
        address: of a Ray that is there; None: one of our own on this machine.
        processors, gpus: that each copy reserves.
    """

    least: int = 1
    most: int = 1
    address: str | None = None
    processors: float = 1.0
    gpus: float = 0.0


class ServiceArguments(BaseModel):
    """What the application is built from: ``args`` in the configuration of Ray Serve."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="Folder, seen by every node, or hub id of a language model.")
    adapters: Path = Field(description="The only folder that adapters are read from; every node sees it.")
    replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    cpus: float = Field(1.0, ge=0)
    gpus: float = Field(0.0, ge=0)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


def ray_backend(settings: Settings, replicas: Replicas) -> Backend:
    """Replicas that are ready.

    Raises:
        CannotServe: Ray is not installed or cannot be reached, or the model cannot be loaded there.
    """
    _authenticate(local=replicas.address is None)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise CannotServe("Ray is not installed here: pip install 'lorebase[ray]'.") from error
    from app.model_server.ray_backend import RayBackend

    _join(ray, replicas)
    try:
        serve.start(proxy_location="Disabled")
        handle = _running(serve, made_from(settings, replicas))
        if handle is None:
            handle = serve.run(model_application(settings, replicas), name=APPLICATION, route_prefix=None)
        described = handle.described.remote().result(timeout_s=60)
    except Exception as error:
        raise CannotServe(
            f"The model's replicas cannot be started on Ray: {_why(error)} `ray status` and the logs of the replicas "
            "(/tmp/ray/session_latest/logs/serve) say more."
        ) from error
    return RayBackend(handle, described, local=replicas.address is None)


def model_application(settings: Settings, replicas: Replicas) -> Application:
    """The deployment of the model, not running yet."""
    from ray import serve

    from app.model_server.ray_replica import ModelReplica

    count: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.most > replicas.least:
        count = {
            "autoscaling_config": {
                "min_replicas": replicas.least,
                "max_replicas": replicas.most,
                "target_ongoing_requests": settings.max_batch,
            }
        }
    deployment = serve.deployment(
        name=DEPLOYMENT,
        max_ongoing_requests=settings.max_batch + settings.max_waiting,
        max_queued_requests=settings.max_waiting,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
        ray_actor_options={"num_cpus": replicas.processors, "num_gpus": replicas.gpus},
        **count,
    )(ModelReplica)
    return deployment.bind(settings.model_dump(include=set(_ENGINE_FIELDS)), made_from(settings, replicas))


def made_from(settings: Settings, replicas: Replicas) -> str:
    """All that an application of the model depends on, in one text."""
    engine = settings.model_dump(mode="json", include=set(_ENGINE_FIELDS) | {"shutdown_seconds"})
    return json.dumps([version("lorebase"), engine, replace(replicas, address=None)], default=asdict, sort_keys=True)


def _running(serve: Any, wanted: str) -> DeploymentHandle[Any] | None:
    """The application that an earlier model server has left on this Ray, where it is the same and answers: its copies
    go on with what they have in memory."""
    try:
        handle: DeploymentHandle[Any] = serve.get_app_handle(APPLICATION)
        return handle if handle.made_from.remote().result(timeout_s=_REACH_SECONDS) == wanted else None
    except Exception:  # there is none, or none that can be used
        return None


def _authenticate(*, local: bool) -> None:
    """A Ray of our own takes nobody without a token that only its processes know. One that is there has its own rules:
    RAY_AUTH_MODE and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, which Ray reads."""
    if local:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine


def _join(ray: Any, replicas: Replicas) -> None:
    options: dict[str, Any] = {"namespace": _NAMESPACE, "log_to_driver": False, "configure_logging": False}
    if replicas.address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "num_cpus": max(os.cpu_count() or 1, math.ceil(replicas.most * replicas.processors)),
        }
    else:
        options["address"] = replicas.address
    try:
        if replicas.address is not None:
            _knock(replicas.address)
        ray.init(**options)
    except Exception as error:
        where = f"at {replicas.address}" if replicas.address else "on this machine"
        raise CannotServe(
            f"Ray cannot be {'reached' if replicas.address else 'started'} {where}: {_why(error)}"
            + (
                " Check the address, that this process runs on one of its nodes, and its token (RAY_AUTH_TOKEN)."
                if replicas.address
                else ""
            )
        ) from error


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()


def _why(error: Exception) -> str:
    text = " ".join((str(error) or type(error).__name__).split())[:500]
    return text if text.endswith(".") else f"{text}."
