"""llama.cpp's server, from the package `xllamacpp`, with a Llama-shaped model and its LoRA adapters turned to GGUF.

A process of its own, in its own environment: one line of JSON says which folders, one line says where it listens, and
it ends when its standard input does. Knows GGUF; knows no clock.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import xllamacpp
from safetensors.torch import load_file

_BASE = "base_model.model."
_TAKES = ("LlamaForCausalLM",)


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return tensor.float().contiguous().numpy()


def _interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a projection as GGUF wants them: the two numbers that a position turns lie beside each other.

    Args:
        rows: [heads * size, d_in], of each head the first halves of the pairs before the second ones.
    """
    split = rows.reshape(heads, 2, -1, rows.shape[1])  # [heads, 2, size / 2, d_in]
    return split.swapaxes(1, 2).reshape(rows.shape)  # [heads * size, d_in]


def _turned(name: str, rows: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    if ".q_proj." in name:
        return _interleaved(rows, config["num_attention_heads"])
    if ".k_proj." in name:
        return _interleaved(rows, config["num_key_value_heads"])
    return rows


def convert_model(folder: Path, file: Path) -> None:
    """Write a model of 32-bit numbers; its tokens are words of which nothing is read, prompts are ids."""
    config = json.loads((folder / "config.json").read_text())
    if config["architectures"][0] not in _TAKES:
        raise SystemExit(f"only {', '.join(_TAKES)} is turned to GGUF here")
    layers, words = config["num_hidden_layers"], config["vocab_size"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    out = gguf.GGUFWriter(file, "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(layers)
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_rope_freq_base(float(config["rope_parameters"]["rope_theta"]))
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(words)
    out.add_tokenizer_model("llama")
    out.add_token_list([f"w{number}" for number in range(words)])
    out.add_token_scores([0.0] * words)
    out.add_token_types([gguf.TokenType.NORMAL] * words)
    out.add_eos_token_id(config["eos_token_id"])
    out.add_add_bos_token(False)
    for name, tensor in load_file(folder / "model.safetensors").items():
        place = names.get_name(name, try_suffixes=(".weight",))
        out.add_tensor(place, _array(_turned(name, tensor, config)))
    _write(out)


def convert_adapter(folder: Path, model: Path, file: Path) -> None:
    """Write an adapter of peft's format."""
    config = json.loads((model / "config.json").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    out = gguf.GGUFWriter(file, "llama")
    out.add_type(gguf.GGUFType.ADAPTER)
    out.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = json.loads((folder / "adapter_config.json").read_text())["lora_alpha"]
    out.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, factor, _ = name.removeprefix(_BASE).rsplit(".", 2)
        place = names.get_name(module)
        rows = _turned(name, tensor, config) if factor == "lora_B" else tensor
        out.add_tensor(f"{place}.weight.{factor.lower()}", _array(rows))
    _write(out)


def _write(out: gguf.GGUFWriter) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main() -> None:
    """Convert, listen, and end with the standard input."""
    job = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory(prefix="lorebase-bench-") as made:
        model = Path(job["model"])
        params = xllamacpp.CommonParams()
        convert_model(model, Path(made) / "model.gguf")
        params.model.path = str(Path(made) / "model.gguf")
        adapters = []
        for number, folder in enumerate(job["adapters"]):
            file = Path(made) / f"adapter-{number}.gguf"
            convert_adapter(Path(folder), model, file)
            adapters.append(xllamacpp.CommonAdapterLoraInfo(str(file), 1.0))
        params.lora_adapters = adapters
        params.lora_init_without_apply = True  # each request names its own
        params.n_parallel = job["rows"]
        params.n_ctx = job["rows"] * job["context"]  # shared out among the rows
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
        params.port = 0
        params.verbosity = 0
        server = xllamacpp.Server(params)
        print(json.dumps({"url": server.listening_address}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
