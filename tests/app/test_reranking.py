"""The builtin reranker gives the same scores whatever runs its encoder."""

from __future__ import annotations

import numpy as np
import pytest

from adapters import EmbeddedReranker
from ingest import openvino_hidden_states

QUESTION = "How many days of annual leave do employees have?"
TEXTS = [
    "Full-time employees have 28 days of paid annual leave each calendar year.",
    "The canteen opens at noon.",
    "Staff Handbook\n" + "Leave is asked for in writing, and granted by the manager of the department. " * 60,
    "",
]


@pytest.mark.model
def test_openvino_scores_passages_as_torch_does() -> None:
    expected = EmbeddedReranker(dtype="float32").score(QUESTION, TEXTS)
    fast = EmbeddedReranker(compile_encoder=openvino_hidden_states)
    scores = fast.score(QUESTION, TEXTS)
    assert np.allclose(scores, expected, atol=0.1)  # log-odds, in bfloat16 where the processor has it
    assert np.argsort(scores).tolist() == np.argsort(expected).tolist()
    assert scores[0] == max(scores)
    assert fast.score(QUESTION, []) == []
