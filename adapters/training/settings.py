"""What one training run is set to: method, hyper-parameters, and their defaults. Plain data; no model library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from adapters.errors import InvalidTrainingData

Method = Literal[
    "lora", "rslora", "dora", "qlora", "prompt", "prefix", "p_tuning", "bottleneck", "ia3", "llama_adapter", "full"
]
Targets = Literal["qv", "attention", "all"]
METHODS: tuple[Method, ...] = get_args(Method)
LOW_RANK: frozenset[str] = frozenset({"lora", "rslora", "dora", "qlora"})
VIRTUAL_TOKENS: frozenset[str] = frozenset({"prompt", "prefix", "p_tuning", "llama_adapter"})
"""Methods whose learned tokens stand in a prompt; a reader, which points at tokens of a passage, has none."""

# Of language models: low ones at which each method clearly learns from 160 examples, by the loss on other examples
# (docs/methods.md); a larger model may want less. Learned tokens and factors have far to go, so their rates are high.
_LEARNING_RATES: Mapping[str, float] = {
    "prompt": 3e-2, "prefix": 1e-1, "p_tuning": 5e-3, "bottleneck": 3e-3, "ia3": 3e-2, "llama_adapter": 5e-2,
    "full": 5e-5,
}  # fmt: skip
_READER_LONGEST = 512  # tokens that MiniLM has positions for
_READER_LEARNING_RATES: Mapping[str, float] = {"ia3": 1e-2, "full": 5e-5}


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of one run. Shares are of the drawn examples; lengths are tokens.

    Attributes:
        rank, alpha: of the low-rank methods; what B·A is multiplied with is alpha/rank, or alpha/√rank for rsLoRA.
        targets: which linear layers the low-rank methods adapt: queries and values (Hu et al. 2021), the four
            attention matrices, or all.
        virtual_tokens: learned tokens of the prompt methods.
        width: of the bottleneck between two layers (Houlsby et al. 2019).
        schedule: the learning rate over the run: points (share of the steps, share of ``learning_rate``), joined by
            straight lines.
        beta: how closely DPO and KTO keep to the base.
        sft_weight: of the supervised loss of the better answers, which is added to DPO's: DPO alone is content when the
            worse answer falls faster, and so can make both unlikely (Pang et al. 2024, "Iterative reasoning preference
            optimization"; 0.2 as in Dubey et al. 2024, "The Llama 3 herd of models").
        strength: how far of the way from the base to what was learned the result lies, in its weights, up to 1. Less
            than all of it keeps much of what the base knew, at little cost or none (Wortsman et al. 2022, "Robust
            fine-tuning of zero-shot models").
    """

    method: Method = "lora"
    rank: int = 8
    alpha: int = 16
    targets: Targets = "qv"
    virtual_tokens: int = 16
    width: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    schedule: tuple[tuple[float, float], ...] = ((0.0, 1.0), (1.0, 0.0))
    epochs: float = 5.0
    batch_size: int = 16
    max_length: int = 320
    lookalike_share: float = 0.0
    altered_share: float = 0.0
    hidden_dropout: float = 0.1
    lora_dropout: float = 0.0
    beta: float = 0.1
    sft_weight: float = 0.2
    strength: float = 1.0
    seed: int = 0
    checkpoint_every: int = 200


# A few draws over look-alike paragraphs keep what the reader knows about abstaining; the strength, what it knows of
# other texts.
READER_ADAPTER = TrainingConfig(batch_size=8, warmup_steps=20, lookalike_share=0.05, strength=0.7)
LANGUAGE_MODEL_ADAPTER = TrainingConfig(batch_size=8, warmup_steps=20, max_length=1024, epochs=3.0)


def config_of(given: Mapping[str, Any], *, generates: bool) -> TrainingConfig:
    """The settings of a run: those given, the others by method and kind of base.

    Args:
        generates: the base is a language model.

    Raises:
        InvalidTrainingData: the method does not apply to this kind of base, or has no use for what is given.
    """
    method: Method = given.get("method", "lora")
    if not generates and method in VIRTUAL_TOKENS:
        raise InvalidTrainingData(
            f"{method} learns tokens of a prompt, and the reader has none. Use lora, rslora, dora, qlora, bottleneck, "
            "ia3 or full, or set LOREBASE_MODEL to a language model."
        )
    if strange := sorted(given.keys() & _foreign(method)):
        raise InvalidTrainingData(f"{strange[0]}: {method} has none, so it would change nothing. Leave it out.")
    if not generates and given.get("max_length", 0) > _READER_LONGEST:
        raise InvalidTrainingData(f"max_length: the reader reads {_READER_LONGEST} tokens at once at most.")
    defaults = LANGUAGE_MODEL_ADAPTER if generates else READER_ADAPTER
    if method == "p_tuning" and given.get("strength", 1.0) < 1:
        raise InvalidTrainingData(
            "strength: p_tuning's tokens are made by a network, and go all the way. Leave it out."
        )
    rank = given.get("rank", defaults.rank)
    rates = _LEARNING_RATES if generates else _READER_LEARNING_RATES
    config = replace(defaults, method=method, alpha=2 * rank, learning_rate=rates.get(method, defaults.learning_rate))
    return replace(config, **given)


def config_to_dict(config: TrainingConfig) -> dict[str, Any]:
    """The settings that matter for the method, by name: what a lineage keeps."""
    left_out = {"checkpoint_every", *_foreign(config.method)}
    return {name: value for name, value in asdict(config).items() if name not in left_out}


def _foreign(method: Method) -> set[str]:
    """Settings of other methods, which this one has no use for."""
    found: set[str] = set()
    if method not in LOW_RANK:
        found |= {"rank", "alpha", "targets", "lora_dropout"}
    if method not in VIRTUAL_TOKENS:
        found |= {"virtual_tokens"}
    if method != "bottleneck":
        found |= {"width"}
    return found
