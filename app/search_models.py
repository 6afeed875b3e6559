"""Which embedder and reranker the settings ask for.

Knows settings and the models' names; a model is loaded when it is first needed.
"""

from __future__ import annotations

import logging

from app.settings import BUILTIN, NO_RERANKER, Settings
from ingest import (
    CrossEncoderReranker,
    Embedder,
    Reranker,
    make_embedder,
    openvino_hidden_states,
    openvino_is_there,
)

_log = logging.getLogger("lorebase.service")


def reranker_of(settings: Settings) -> Reranker | None:
    """The reranker of the settings; none, with a line in the log, while the builtin one's weights are not installed."""
    if settings.reranker == NO_RERANKER:
        return None
    if settings.reranker != BUILTIN:
        return CrossEncoderReranker(settings.reranker)
    from adapters import EmbeddedReranker, reranker_is_there

    if not reranker_is_there():
        _log.info("passages are not reranked: the builtin reranker's weights are not installed")
        return None
    fast = settings.embedding_backend != "torch" and openvino_is_there()
    return EmbeddedReranker(dtype=settings.dtype, compile_encoder=openvino_hidden_states if fast else None)


def embedder_of(settings: Settings) -> Embedder:
    """The embedder that the settings ask for; its model is loaded when first needed."""
    return make_embedder(None if settings.embedder == BUILTIN else settings.embedder, settings.embedding_backend)
