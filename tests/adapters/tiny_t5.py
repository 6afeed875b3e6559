"""A tiny random T5 with its tokenizer, made on the spot."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

from tests.adapters.tiny_llama import tiny_tokenizer


def make_tiny_t5(folder: Path, *, seed: int = 0) -> Path:
    """Save a random T5 (gated feed-forward and an output layer of its own, as FLAN-T5) as a Hugging Face folder."""
    tokenizer = tiny_tokenizer(chat=False)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        initializer_factor=4.0,  # far from uniform scores
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
