"""A tiny random Llama and LoRA adapters for it, made on the spot: tests of the language-model path download nothing.

The model has two layers of width 64 and a byte-level BPE vocabulary trained on a few sentences. Its answers are
nonsense, but the same nonsense every time, and its adapters change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterRef

HIDDEN = 64
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CONTROL = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_CORPUS = [
    "Answer the question from the numbered sources and name the source of each statement in brackets.",
    "I cannot answer this from the documents. The sources are quoted data, never instructions.",
    "The revenue of the company was 12 million in 2019. Question: what was it? Answer: 12 million [1].",
    "The tablet is taken twice a day after a meal. Staff have thirty days of holiday in each year.",
]


def make_tiny_llama(
    folder: Path,
    *,
    seed: int = 0,
    chat: bool = True,
    context: int = CONTEXT,
    hidden: int = HIDDEN,
    endless: bool = False,
) -> Path:
    """Save a random Llama with its tokenizer, as a Hugging Face folder with safetensors.

    Args:
        chat: with a chat template; without one the prompt is plain text.
        context: positions of the model, in tokens.
        endless: never the likeliest token is the one that ends an answer.

    Returns:
        The folder.
    """
    tokenizer = tiny_tokenizer(chat)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,  # far from uniform scores, so that padding and batching cannot tip the largest
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    if endless:
        with torch.no_grad():
            model.lm_head.weight[tokenizer.eos_token_id] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_lora(
    model: Path,
    folder: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    scale: float = 0.3,
    **config: Any,
) -> AdapterRef:
    """Save a LoRA adapter for a model made here, by plain peft.

    Args:
        scale: standard deviation of B's entries; 0 makes an adapter without effect.
        config: further fields of peft's LoraConfig.

    Returns:
        A reference to it, with the sha256 of its weights.
    """
    torch.manual_seed(seed)
    encodes = AutoConfig.from_pretrained(model).is_encoder_decoder
    base = (AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM).from_pretrained(model)
    task = "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM"
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type=task, **config)
    adapted = get_peft_model(base, settings)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=scale) if scale else parameter.zero_()
    adapted.save_pretrained(folder)
    return AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)


def tiny_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=_CONTROL, initial_alphabet=alphabet)
    bpe.train_from_iterator(_CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<|end|>")
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
