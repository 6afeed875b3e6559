"""Adapters and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from app.adapter_schemas import ActiveVersion, AdapterList, AdapterResponse, DefaultAdapter, PinnedVersion
from app.adapter_schemas import UploadedVersion as Uploaded
from app.client.calls import Call, Download, Sending, given, nothing, path_of, shaped

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapters() -> Call[AdapterList]:
    """The tenant's adapters."""
    return shaped(AdapterList, Sending("GET", "/adapters"))


def adapter(name: str) -> Call[AdapterResponse]:
    """One adapter with its versions."""
    return shaped(AdapterResponse, Sending("GET", path_of("adapters", name)))


def upload_adapter(name: str, source: Path) -> Call[Uploaded]:
    """Register a folder's two adapter files, or a zip archive of them, as a new version. Raises OSError."""
    paths = [source / file for file in ADAPTER_FILES] if source.is_dir() else [source]
    files = [("files", path) for path in paths]
    return shaped(Uploaded, Sending("POST", path_of("adapters", name, "versions"), files=files))


def promote(name: str, version: int) -> Call[ActiveVersion]:
    """Make a version the active one of its adapter."""
    return shaped(ActiveVersion, Sending("POST", path_of("adapters", name, "promote"), json={"version": version}))


def rollback(name: str) -> Call[ActiveVersion]:
    """Make the version active that was so before."""
    return shaped(ActiveVersion, Sending("POST", path_of("adapters", name, "rollback")))


def canary(
    name: str, version: int, percent: float, *, mode: Literal["canary", "shadow"] = "canary"
) -> Call[AdapterResponse]:
    """Try a version on a share of the requests; 0 percent ends it."""
    body = {"version": version, "percent": percent, "mode": mode}
    return shaped(AdapterResponse, Sending("POST", path_of("adapters", name, "canary"), json=body))


def pin(name: str, *, version: int | None = None, pinned: bool = True) -> Call[PinnedVersion]:
    """Keep a version in memory, the active one unless given, or no longer."""
    body = given(version=version, pinned=pinned)
    return shaped(PinnedVersion, Sending("POST", path_of("adapters", name, "pin"), json=body))


def set_default_adapter(name: str) -> Call[DefaultAdapter]:
    """Choose the adapter of requests that name none; ``base`` is none."""
    return shaped(DefaultAdapter, Sending("PUT", "/adapters/default", json={"name": name}))


def delete_adapter(name: str) -> Call[None]:
    """Delete an adapter with all its versions."""
    return nothing(Sending("DELETE", path_of("adapters", name)))


def delete_version(name: str, version: int) -> Call[None]:
    """Delete a version that is neither active nor on trial."""
    return nothing(Sending("DELETE", path_of("adapters", name, "versions", version)))


def export_version(name: str, version: int) -> Download:
    """A version as a zip archive in peft's format."""
    return Download(Sending("GET", path_of("adapters", name, "versions", version, "export")))
