"""The fast backend makes torch's vectors, says what it cannot run, and tells nobody that it is there."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from ingest.embedding import SentenceTransformerEmbedder, model_location
from ingest.errors import EmbedderUnavailable
from ingest.openvino_embedder import OpenVINOEmbedder, make_embedder
from ingest.openvino_encoder import OpenVINOEncoder, batches, unsupported

TEXTS = [
    "When was the turbine hall built?",
    "The annual report was published in March. " * 40,  # longer than the model reads
    "年度报告说明了收入 Ελλάδα naïve ﬁne",
    "",
    "  two\n lines\t",
    "\ud800 lone \x00",
    *(f"Holidays are granted by managers of department {n}." * (n + 1) for n in range(12)),
]


@pytest.mark.model
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("auto", 0.9999)])
def test_its_vectors_are_those_of_torch(precision: str, least: float) -> None:
    slow, fast = SentenceTransformerEmbedder(), OpenVINOEmbedder(precision=precision)
    assert fast.fingerprint == slow.fingerprint
    assert fast.dimension == slow.dimension
    cosines = (slow.encode(TEXTS) * fast.encode(TEXTS)).sum(axis=1)  # [n]
    assert cosines.min() > least


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_every_family_gives_the_hidden_states_of_transformers(family: str) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
             "vocab_size": 50, "max_position_embeddings": 40, "initializer_range": 0.4}  # fmt: skip
    config = BertConfig(**shape) if family == "bert" else XLMRobertaConfig(**shape, pad_token_id=1)
    model = (BertModel(config) if family == "bert" else XLMRobertaModel(config)).eval()
    weights = {name: values.numpy() for name, values in model.state_dict().items()}
    sequences = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 12, 49], [11]]
    encoder = OpenVINOEncoder(weights, config.to_dict(), precision="float32")
    for own, ids in zip(encoder.hidden(sequences), sequences, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).last_hidden_state[0].numpy()  # [T, d]
        assert np.allclose(own, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "mpnet"}, "family 'mpnet'"),
        ({"hidden_act": "relu"}, "activation"),
        ({"position_embedding_type": "relative_key"}, "positions"),
        ({"is_decoder": True}, "decoder"),
    ],
)
def test_another_architecture_is_named(change: dict[str, object], reason: str) -> None:
    assert unsupported({"model_type": "bert"}) is None
    assert reason in str(unsupported({"model_type": "bert", **change}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sentence-transformers folder like the packaged one, to be changed."""
    source = Path(model_location(None))
    for name in ("config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, tmp_path / name)
    save_file({"none": torch.zeros(1)}, tmp_path / "model.safetensors")
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | values))


def test_what_it_cannot_run_exactly_goes_to_torch_with_the_reason(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert isinstance(make_embedder(str(folder)), OpenVINOEmbedder)
    change(folder / "config_sentence_transformers.json", default_prompt_name="query")
    assert isinstance(make_embedder(str(folder)), SentenceTransformerEmbedder)
    assert "given a prompt" in caplog.text
    with pytest.raises(EmbedderUnavailable, match=r"given a prompt.*LOREBASE_EMBEDDING_BACKEND"):
        make_embedder(str(folder), "openvino").encode(["x"])


def test_another_pooling_goes_to_torch(folder: Path) -> None:
    change(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    assert isinstance(make_embedder(str(folder)), SentenceTransformerEmbedder)


def test_torch_is_taken_when_it_is_asked_for() -> None:
    assert isinstance(make_embedder(None, "torch"), SentenceTransformerEmbedder)


def test_a_folder_without_the_weights_of_its_architecture_is_named(folder: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match="embeddings"):
        OpenVINOEmbedder(str(folder)).encode(["x"])


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    lengths = [3, 50, 4, 49, 200, 3]
    found = batches(lengths, most_tokens=100)
    assert found == [[4], [1, 3], [2, 0, 5]]
    assert batches([], 100) == []


def test_loading_it_loads_nothing_that_reports_to_the_internet() -> None:
    program = (
        "import sys\n"
        "from ingest.openvino_encoder import load_openvino\n"
        "load_openvino().Core()\n"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
