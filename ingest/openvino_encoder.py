"""Encoders of the BERT family on OpenVINO: about three times torch's speed in float32, five in bfloat16.

The graph is written down here from the model's weights, so that nothing is traced or exported and a start costs a
fraction of a second. Knows the architecture (Devlin et al. 2019) and OpenVINO; knows no text, no tokenizer, no torch.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pooling = Literal["mean", "cls", "none"]
Weights = Mapping[str, NDArray[Any]]

_FAMILY = {"bert", "roberta", "xlm-roberta"}
_OFFSET_POSITIONS = {"roberta", "xlm-roberta"}  # their first token stands at the padding token's number + 1
_BATCH_TOKENS = 1_536  # with their padding; larger batches leave the processor's caches
_KEPT_KERNELS = 256  # of shapes seen last; OpenVINO itself keeps 5,000, which takes hundreds of MiB
_HIDDEN = -1e4  # added to the attention of padding


def load_openvino() -> Any:
    """The module ``openvino``, kept from reporting its own import to a statistics service on the internet.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it has a stub for this case
    import openvino

    return openvino


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why no encoder can be made of a model with this ``config.json``; ``None`` when one can."""
    kind = config.get("model_type")
    if kind not in _FAMILY:
        return f"it is of the family {kind!r}"
    if config.get("hidden_act", "gelu") != "gelu":
        return f"its activation is {config['hidden_act']!r}"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return f"its positions are {config['position_embedding_type']!r}"
    if config.get("is_decoder"):
        return "it is a decoder"
    return None


def openvino_hidden_states(
    weights: Weights, config: Mapping[str, Any]
) -> Callable[[Sequence[Sequence[int]]], list[NDArray[np.float32]]]:
    """A function from sequences of token ids to the last hidden states of each, float32 ``[tokens, dimension]``.

    Raises:
        ImportError, KeyError: see `OpenVINOEncoder`.
    """
    return OpenVINOEncoder(weights, config).hidden


def openvino_is_there() -> bool:
    """Whether OpenVINO is installed."""
    try:
        load_openvino()
    except ImportError:
        return False
    return True


class OpenVINOEncoder:
    """A compiled encoder. Safe to use from any thread; calls take turns after every batch.

    Args:
        weights: by the names of transformers' ``BertModel`` or its kin, with or without a prefix.
        config: the model's ``config.json``.
        pooling: what a sequence becomes: the mean of its tokens or its first one, of length 1; or all its tokens.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor multiplies it natively.
        threads: ``None`` for one per core.

    Raises:
        ImportError: OpenVINO is not installed.
        KeyError: a weight is missing.
    """

    def __init__(
        self,
        weights: Weights,
        config: Mapping[str, Any],
        pooling: Pooling = "none",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        openvino = load_openvino()
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = ("bfloat16" if native else "float32") if precision == "auto" else precision
        self.dimension = int(config["hidden_size"])
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[self.precision],
            "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_KERNELS,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        graph = _Graph(openvino, weights, config).model(pooling)
        self._compiled = core.compile_model(graph, "CPU", options)
        self._requests = threading.local()

    def pooled(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One vector for each sequence of token ids, float32 ``[n, dimension]``."""
        vectors = np.empty((len(sequences), self.dimension), dtype=np.float32)  # [n, d]
        for batch in batches([len(ids) for ids in sequences]):
            vectors[batch] = self._run([sequences[i] for i in batch])
        return vectors

    def hidden(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """The last hidden states of each sequence of token ids, float32 ``[tokens, dimension]``."""
        states: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(sequences)
        for batch in batches([len(ids) for ids in sequences]):
            for i, own in zip(batch, self._run([sequences[i] for i in batch]), strict=True):
                states[i] = own[: len(sequences[i])]
        return states

    def _run(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(len(ids) for ids in sequences)
        tokens = np.zeros((len(sequences), longest), dtype=np.int64)  # [B, T]
        mask = np.zeros((len(sequences), longest), dtype=np.float32)  # [B, T]
        for row, ids in enumerate(sequences):
            tokens[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        request = getattr(self._requests, "own", None)
        if request is None:  # one for each thread: OpenVINO lets them take turns, first come, first served
            request = self._requests.own = self._compiled.create_infer_request()
        result: NDArray[np.float32] = request.infer([tokens, mask])[0].copy()
        return result


def batches(lengths: Sequence[int], most_tokens: int = _BATCH_TOKENS) -> list[list[int]]:
    """Indices in batches of similar length, the longest first, each of at most so many tokens with its padding."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= most_tokens:
            found[-1].append(index)
        else:
            found.append([index])
    return found


@dataclass(frozen=True)
class _Graph:
    """Writes the encoder down in OpenVINO's operations."""

    openvino: Any
    weights: Weights
    config: Mapping[str, Any]

    def model(self, pooling: Pooling) -> Any:
        op, ov = self.openvino.opset13, self.openvino
        tokens = op.parameter(ov.PartialShape([-1, -1]), ov.Type.i64, "tokens")  # [B, T]
        mask = op.parameter(ov.PartialShape([-1, -1]), ov.Type.f32, "mask")  # [B, T]
        hide = op.multiply(op.subtract(self._float(1), mask), self._float(_HIDDEN))  # [B, T]
        bias = op.unsqueeze(hide, self._ints(1, 2))  # [B, 1, 1, T]
        states = self._embeddings(tokens)  # [B, T, d]
        for number in range(self.config["num_hidden_layers"]):
            states = self._layer(states, bias, f"encoder.layer.{number}.")  # [B, T, d]
        if pooling == "none":
            return ov.Model([op.result(states)], [tokens, mask], "encoder")
        if pooling == "mean":
            counted = op.unsqueeze(mask, self._ints(2))  # [B, T, 1]
            total = op.reduce_sum(op.multiply(states, counted), self._ints(1), False)  # [B, d]
            pooled = op.divide(total, op.reduce_sum(counted, self._ints(1), False))  # [B, d]
        else:
            pooled = op.gather(states, self._int(0), self._int(1))  # [B, d]
        normed = op.normalize_l2(pooled, self._ints(1), 1e-12, "max")  # [B, d]
        return ov.Model([op.result(normed)], [tokens, mask], "encoder")

    def _embeddings(self, tokens: Any) -> Any:
        op, zero, one = self.openvino.opset13, self._int(0), self._int(1)
        first = self.config["pad_token_id"] + 1 if self.config["model_type"] in _OFFSET_POSITIONS else 0
        length = op.gather(op.shape_of(tokens), one, zero)  # a number: T
        positions = op.range(self._int(first), op.add(length, self._int(first)), one, "i64")  # [T]
        words = op.gather(self._weight("embeddings.word_embeddings.weight"), tokens, zero)  # [B, T, d]
        places = op.gather(self._weight("embeddings.position_embeddings.weight"), positions, zero)  # [T, d]
        kinds = self._constant(self._values("embeddings.token_type_embeddings.weight")[0])  # [d]: all of one type
        return self._norm(op.add(words, op.add(places, kinds)), "embeddings.LayerNorm")

    def _layer(self, states: Any, bias: Any, name: str) -> Any:
        op = self.openvino.opset13
        query, key, value = (
            self._heads(self._linear(states, f"{name}attention.self.{part}")) for part in ("query", "key", "value")
        )  # [B, H, T, d / H] each
        mixed = op.transpose(op.scaled_dot_product_attention(query, key, value, bias), self._ints(0, 2, 1, 3))
        mixed = op.reshape(mixed, self._ints(0, 0, self.config["hidden_size"]), True)  # [B, T, d]
        attended = op.add(states, self._linear(mixed, f"{name}attention.output.dense"))  # [B, T, d]
        attended = self._norm(attended, f"{name}attention.output.LayerNorm")
        inner = op.gelu(self._linear(attended, f"{name}intermediate.dense"), "erf")  # [B, T, 4 d]
        return self._norm(op.add(attended, self._linear(inner, f"{name}output.dense")), f"{name}output.LayerNorm")

    def _heads(self, states: Any) -> Any:
        op, heads = self.openvino.opset13, self.config["num_attention_heads"]
        shape = self._ints(0, 0, heads, self.config["hidden_size"] // heads)
        return op.transpose(op.reshape(states, shape, True), self._ints(0, 2, 1, 3))  # [B, H, T, d / H]

    def _linear(self, states: Any, name: str) -> Any:
        op = self.openvino.opset13
        product = op.matmul(states, self._weight(f"{name}.weight"), False, True)
        return op.add(product, self._weight(f"{name}.bias"))

    def _norm(self, states: Any, name: str) -> Any:
        op = self.openvino.opset13
        unit = op.mvn(states, self._ints(-1), True, self.config.get("layer_norm_eps", 1e-12), "inside_sqrt")
        return op.add(op.multiply(unit, self._weight(f"{name}.weight")), self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> Any:
        return self._constant(self._values(name))

    def _values(self, name: str) -> NDArray[Any]:
        for prefix in ("", "bert.", "roberta."):
            if prefix + name in self.weights:
                return self.weights[prefix + name]
        raise KeyError(name)

    def _constant(self, values: NDArray[Any]) -> Any:
        return self.openvino.opset13.constant(np.ascontiguousarray(values, dtype=np.float32))

    def _float(self, value: float) -> Any:
        return self.openvino.opset13.constant(np.float32(value))

    def _int(self, value: int) -> Any:
        return self.openvino.opset13.constant(np.int64(value))

    def _ints(self, *values: int) -> Any:
        return self.openvino.opset13.constant(np.array(values, dtype=np.int64))
