"""Base models, adapters and generation: what the rest of the service may use of this package.

Names are loaded when first used, so that importing the package costs no model library.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapter_cache import AdapterCache
    from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
    from adapters.base_model import reader_is_there
    from adapters.causal import CausalEngine
    from adapters.engine import (
        AdapterFacts,
        AdapterMemory,
        AdapterRef,
        Deliver,
        Done,
        Engine,
        EngineStatus,
        Event,
        Failed,
        PassageRead,
        Row,
        Span,
        Submission,
        Token,
    )
    from adapters.fair_queue import FairQueue, may_wait
    from adapters.lineage import Lineage
    from adapters.object_store import ObjectStore, open_object_store
    from adapters.reader import ReaderEngine
    from adapters.registry import AdapterRegistry
    from adapters.registry_entries import (
        BASE,
        Adapter,
        AdapterVersion,
        Selection,
        check_name,
        files_in,
        pinned_in,
    )
    from adapters.registry_state import Change, FileState, RegistryState
    from adapters.remote import RemoteEngine
    from adapters.reranker import EmbeddedReranker, reranker_is_there
    from adapters.stored_files import VERSION_FILES, StoredFiles, fetch_files, key_of
    from adapters.template import (
        ABSTENTION,
        DEFAULT_TEMPLATE,
        ChatMessage,
        Example,
        Passage,
        PromptTemplate,
        Turn,
        check_template,
    )
    from adapters.trial import AdapterEvent, EventKind, Trial
    from adapters.version_files import UNLISTED, FolderFiles, KeptFiles, VersionFiles, damage_of, refuse_damaged

# peft imports bitsandbytes where it is installed, which complains of a faster kernel that lies on the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOME = {
    "adapters.adapter_cache": ["AdapterCache"],
    "adapters.adapter_files": ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS"],
    "adapters.base_model": ["reader_is_there"],
    "adapters.causal": ["CausalEngine"],
    "adapters.engine": [
        "AdapterFacts", "AdapterMemory", "AdapterRef", "Deliver", "Done", "Engine", "EngineStatus",
        "Event", "Failed", "PassageRead", "Row", "Span", "Submission", "Token",
    ],
    "adapters.fair_queue": ["FairQueue", "may_wait"],
    "adapters.lineage": ["Lineage"],
    "adapters.object_store": ["ObjectStore", "open_object_store"],
    "adapters.reader": ["ReaderEngine"],
    "adapters.remote": ["RemoteEngine"],
    "adapters.reranker": ["EmbeddedReranker", "reranker_is_there"],
    "adapters.registry": ["AdapterRegistry"],
    "adapters.registry_entries": [
        "BASE", "Adapter", "AdapterVersion", "Selection", "check_name", "pinned_in", "files_in",
        "registered_in",
    ],
    "adapters.registry_state": ["Change", "FileState", "RegistryState"],
    "adapters.trial": ["AdapterEvent", "EventKind", "Trial"],
    "adapters.stored_files": ["VERSION_FILES", "StoredFiles", "fetch_files", "key_of"],
    "adapters.version_files": ["UNLISTED", "FolderFiles", "KeptFiles", "VersionFiles", "damage_of", "refuse_damaged"],
    "adapters.template": [
        "ABSTENTION", "DEFAULT_TEMPLATE", "ChatMessage", "Example", "Passage", "PromptTemplate", "Turn",
        "check_template",
    ],
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ABSTENTION",
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "BASE",
    "DEFAULT_TEMPLATE",
    "UNLISTED",
    "VERSION_FILES",
    "Adapter",
    "AdapterCache",
    "AdapterEvent",
    "AdapterFacts",
    "AdapterMemory",
    "AdapterRef",
    "AdapterRegistry",
    "AdapterVersion",
    "CausalEngine",
    "Change",
    "ChatMessage",
    "Deliver",
    "Done",
    "EmbeddedReranker",
    "Engine",
    "EngineStatus",
    "Event",
    "EventKind",
    "Example",
    "Failed",
    "FairQueue",
    "FileState",
    "FolderFiles",
    "KeptFiles",
    "Lineage",
    "ObjectStore",
    "Passage",
    "PassageRead",
    "PromptTemplate",
    "ReaderEngine",
    "RegistryState",
    "RemoteEngine",
    "Row",
    "Selection",
    "Span",
    "StoredFiles",
    "Submission",
    "Token",
    "Trial",
    "Turn",
    "VersionFiles",
    "check_name",
    "check_template",
    "damage_of",
    "fetch_files",
    "files_in",
    "key_of",
    "may_wait",
    "open_object_store",
    "pinned_in",
    "reader_is_there",
    "refuse_damaged",
    "registered_in",
    "reranker_is_there",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)
