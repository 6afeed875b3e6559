"""What can be wrong with a machine, its models or a service, and how each is mended: one function for each matter; and
all checks in their order.

Looks, and changes nothing. What can be wrong with a data folder is `app.folder_diagnosis`'; `lorebase doctor` shows
what is found.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx

from adapters import reader_is_there, reranker_is_there
from app.findings import Check, Finding, State, nearest
from app.folder_diagnosis import check_adapters, check_databases, check_documents, check_folder, check_indexes, is_held
from app.keys_file import kept_key
from app.search_models import embedder_of
from app.settings import BUILTIN, REMOTE, Settings
from ingest import EmbedderUnavailable

_OLDEST_PYTHON = (3, 11)
_ENOUGH_MEMORY = 2 * 1024**3
_ENOUGH_FILES = 1024  # each tenant in use holds a few, each connection one
_BUSY = 2.0  # runnable processes a core, as a mean of a minute
_LITTLE_DISK, _NO_DISK = 2 * 1024**3, 200 * 1024**2
_LIBRARIES = ("torch", "transformers", "peft", "faiss-cpu", "sentence-transformers", "fastapi", "pydantic")
_ANSWER_SECONDS = 5.0


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Every finding, as it is made. A check that fails itself is a finding too."""
    for name, check in _CHECKS.items():
        try:
            yield from check(settings)
        except Exception as error:  # a doctor that dies tells nothing
            yield Finding(name, "wrong", f"could not be checked: {type(error).__name__}: {error}")


def check_python(_: Settings) -> Iterator[Finding]:
    """The interpreter, and the libraries that the service is made of."""
    shown = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        yield Finding("python", "wrong", f"Python {shown} is too old", "Use Python 3.11 or newer.")
    else:
        yield Finding("python", "ok", f"Python {shown}, SQLite {sqlite3.sqlite_version}")
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            mend = "Install the project again: pip install --constraint constraints.txt --editable ."
            yield Finding("libraries", "wrong", f"{library} is not installed", mend)
    if "torch" in found:
        yield _torch(found["torch"])


def _torch(installed: str) -> Finding:
    has_gpu = Path("/proc/driver/nvidia").exists()
    is_cuda = "+cpu" not in installed and _is_installed("nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cublas")
    if is_cuda and not has_gpu:
        return Finding(
            "torch", "warning", f"torch {installed} carries CUDA, and there is no GPU",
            "The CPU build is gigabytes smaller: pip install torch --index-url https://download.pytorch.org/whl/cpu",
        )  # fmt: skip
    return Finding("torch", "ok", f"torch {installed}, {'with' if is_cuda else 'no'} CUDA")


def _is_installed(*names: str) -> bool:
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return True
    return False


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Processor, memory, open files and the disk that the data lies on."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fast = " with bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else ""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if load > _BUSY * cores:
        mend = "End other work, or set OMP_NUM_THREADS=1: an answer's threads then do not wait for one another."
        yield Finding("processor", "warning", f"{load:.1f} processes want its {cores} cores{fast}", mend)
    else:
        yield Finding("processor", "ok", f"{cores} cores{fast}, {platform.machine()}")
    if (files := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) < _ENOUGH_FILES:
        mend = f"Start the service after `ulimit -n {_ENOUGH_FILES}`, or with more LimitNOFILE in its unit."
        yield Finding("files", "warning", f"a process may open only {files} files at once", mend)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < _ENOUGH_MEMORY:
        mend = "Give the machine 2 GiB or more, or set LOREBASE_ADAPTER_MEMORY_MB and LOREBASE_INDEX_MEMORY_MB lower."
        yield Finding("memory", "warning", f"{_gib(memory)} in all", mend)
    else:
        yield Finding("memory", "ok", f"{_gib(memory)} in all")
    free = shutil.disk_usage(nearest(settings.data)).free
    state: State = "wrong" if free < _NO_DISK else "warning" if free < _LITTLE_DISK else "ok"
    mend = "" if state == "ok" else f"Free some of the disk of {settings.data}, or set LOREBASE_DATA to another one."
    yield Finding("disk", state, f"{_gib(free)} free for {settings.data}", mend)


def check_models(settings: Settings) -> Iterator[Finding]:
    """The models that the settings name are there."""
    if settings.model == BUILTIN:
        there = reader_is_there()
        mend = (
            "" if there else "Install the project again from a whole checkout: the reader's weights are in adapters/."
        )
        yield Finding(
            "model", "ok" if there else "wrong", "the builtin reader" + ("" if there else " is missing"), mend
        )
    elif settings.model.startswith(REMOTE):
        yield _model_server(settings)
    elif Path(settings.model).is_dir():
        there = (Path(settings.model) / "config.json").is_file()
        mend = "" if there else "Set LOREBASE_MODEL to a folder in Hugging Face's format."
        yield Finding(
            "model", "ok" if there else "wrong", f"{settings.model}{'' if there else ' has no config.json'}", mend
        )
    else:
        mend = (
            "It is loaded from the hub at the first start; set LOREBASE_MODEL to a folder where there is no internet."
        )
        yield Finding("model", "warning", f"{settings.model} is no folder on this machine", mend)
    try:
        yield Finding("embedder", "ok", f"{settings.embedder}, {embedder_of(settings).fingerprint[:19]}")
    except EmbedderUnavailable as error:
        yield Finding("embedder", "wrong", str(error), "Set LOREBASE_EMBEDDER to `builtin` or to a model's folder.")
    if settings.reranker == BUILTIN and not reranker_is_there():
        mend = "Install the project from a whole checkout, or set LOREBASE_RERANKER to none."
        yield Finding("reranker", "warning", "the builtin reranker's weights are not installed", mend)


def _model_server(settings: Settings) -> Finding:
    key = settings.openai_key.get_secret_value() if settings.openai_key else ""
    url = f"{settings.openai_url.rstrip('/')}/models"
    mend = "Start the model server, or set LOREBASE_OPENAI_URL and LOREBASE_OPENAI_KEY as it has them."
    try:
        response = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=_ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding("model", "wrong", f"no model server answers at {url}: {error}", mend)
    if response.status_code != 200:
        return Finding("model", "wrong", f"{url} answered {response.status_code}", mend)
    return Finding("model", "ok", f"{settings.model} at {settings.openai_url}")


def check_service(settings: Settings) -> Iterator[Finding]:
    """Who listens where the service does, and whether it can answer."""
    url = settings.url
    try:
        response = httpx.get(f"{url}/readyz", timeout=_ANSWER_SECONDS, verify=settings.trusted)
        told = response.json()
        ready, reason = bool(told["ready"]), str(told["reason"])
    except httpx.ConnectError:
        yield from _nobody_listens(settings)
        return
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        mend = "Stop it, or set LOREBASE_PORT to another port."
        yield Finding("service", "wrong", f"something else listens at {url}", mend)
        return
    if not ready:
        yield Finding("service", "warning", f"{url} is not ready: {reason}", "Wait, or read its log.")
        return
    described = httpx.get(f"{url}/openapi.json", timeout=_ANSWER_SECONDS, verify=settings.trusted).json()
    theirs = str(described["info"]["version"])
    mine = version("lorebase")
    if theirs != mine:
        mend = "Restart the service, or use the command of its version."
        yield Finding("service", "warning", f"{url} is version {theirs}, this command is {mine}", mend)
    else:
        yield Finding("service", "ok", f"{url} answers, version {theirs}")
    yield from _key(settings)


def _key(settings: Settings) -> Iterator[Finding]:
    """Whether the key that commands send here opens the service that answers here."""
    given = settings.default_key.get_secret_value() if settings.default_key else kept_key(settings.data, admin=False)
    if given is None:
        return
    headers = {"Authorization": f"Bearer {given}"}
    answer = httpx.get(f"{settings.url}/key", headers=headers, timeout=_ANSWER_SECONDS, verify=settings.trusted)
    if answer.status_code == 401:
        mend = "Set LOREBASE_DEFAULT_KEY, or LOREBASE_DATA to the folder of that service."
        yield Finding("key", "warning", f"the key that commands would send does not open {settings.url}", mend)


def _nobody_listens(settings: Settings) -> Iterator[Finding]:
    if settings.data.is_dir() and is_held(settings.data):
        mend = "Set LOREBASE_HOST and LOREBASE_PORT as that process has them, or end it."
        yield Finding("service", "warning", f"a process has {settings.data}, but none answers at {settings.url}", mend)
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        mend = "Set LOREBASE_HOST and LOREBASE_PORT to an address of this machine with a free port."
        yield Finding("service", "wrong", f"{settings.host}:{settings.port} cannot be used: {error.strerror}", mend)
    else:
        yield Finding("service", "ok", f"none runs at {settings.url}, and the port is free: lorebase serve")


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"


_CHECKS: dict[str, Check] = {
    "python": check_python,
    "machine": check_machine,
    "models": check_models,
    "data": check_folder,
    "database": check_databases,
    "index": check_indexes,
    "documents": check_documents,
    "adapter": check_adapters,
    "service": check_service,
}
