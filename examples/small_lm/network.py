"""The small model's architecture, and how its weights begin: near the circuits that answering from a text needs.

A model answers from passages by heads that find the place where the words before were the ones that were asked for, and
those need each word to know what it is about. Such circuits appear by themselves only after long training (Olsson et
al. 2022), so the weights begin near them (compare Trockman and Kolter 2023): heads of the first layer look for the word
before, and for the latest name, kind, attribute and passage number; heads of the later layers compare what those found,
and copy. All of it goes on learning. Knows weights and classes of words; knows no text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from examples.small_lm.words import ATTRIBUTES, KINDS, NAMES, NUMBERS, PEOPLE, WORD_VALUES

CONTEXT = 1024
HIDDEN, LAYERS, HEADS, WIDTH, INNER = 192, 3, 6, 32, 384
_TURNS = 1e6  # RoPE's base: most turns are so slow that words compare alike at any distance
_SIZE = 0.6  # of a part of an embedding that tells its word's class; what tells the word itself has size 1
# Parts of an embedding: one that all words have, then one for each class of words.
_ALL, _NAME, _KIND, _ATTRIBUTE, _NUMBER, _VALUE = range(6)
_FOUND, _MATCHING = 2.0, 10.0  # how strongly first-layer heads write, and later ones compare


def make_model(tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """The model before its training."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": _TURNS},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        attn_implementation="eager",  # lanes need a mask of their own, with which it is the fastest here
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    _begin(model, _classes(tokenizer))
    return model


def _classes(tokenizer: Any) -> dict[int, list[int]]:
    """Token ids of each class of words that has a part of its own."""
    first_words = [word for words in (NUMBERS, PEOPLE[0], *WORD_VALUES.values()) for word in words]

    def ids(words: Iterable[str]) -> list[int]:
        return [int(tokenizer.convert_tokens_to_ids(word)) for word in words]

    return {
        _NAME: ids(f"▁{word}" for word in NAMES),
        _KIND: ids(f"▁{word}" for word in KINDS),
        _ATTRIBUTE: ids(f"▁{word}" for word in ATTRIBUTES),
        _NUMBER: ids(f"[{n}]" for n in range(1, 21)),
        _VALUE: ids(f"▁{word}" for word in first_words),
    }


@torch.no_grad()
def _begin(model: Any, classes: dict[int, list[int]]) -> None:
    table = model.model.embed_tokens.weight  # [V, d]
    table.normal_(std=HIDDEN**-0.5)
    table[:, : _VALUE + 1] = 0.0
    table[:, _ALL] = _SIZE
    for part, ids in classes.items():
        table[ids, part] = _SIZE
    first, *later = (layer.self_attn for layer in model.model.layers)
    read, found = _bases(HEADS), _bases(HEADS)  # [heads][d, width]; what first-layer heads read, and where they write
    for h, (part, back, slowest, fastest) in enumerate(
        [
            (_ALL, 1, 0.1, 2.0),
            (_NAME, 0, 0.01, 0.1),
            (_KIND, 0, 0.01, 0.1),
            (_ATTRIBUTE, 0, 0.03, 0.2),
            (_NUMBER, 0, 0.01, 0.1),
            (_ALL, 3, 0.05, 0.2),
        ]
    ):
        query, key = _look(back, slowest, fastest)
        _set(first, h, _one(query, _ALL), _one(key, part), read[h].T, found[h] * _FOUND)
    about = sum(found[h] for h in (1, 2, 3))  # name, kind and attribute  [d, width]
    slow = _slow()[:, None]  # [width, 1]
    for n, attention in enumerate(later):
        copied = _bases(HEADS)
        for h in range(HEADS):
            query = key = slow * about.T * _MATCHING
            value, out = copied[h].T, copied[h]
            if h == 4:  # the word after the last time this word stood
                query, key = slow * read[0].T * _MATCHING, slow * found[0].T * _MATCHING
            elif h == 5 and n == 1:  # the number of the passage
                value, out = found[4].T, read[4] * 2
            if h != 4:  # rather values than other words
                query, key = query + _slot(_ALL), key + _slot(_VALUE)
            _set(attention, h, query, key, value, out)


def _set(
    attention: Any, head: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor
) -> None:
    """Set a head: ``query``, ``key`` and ``value`` [width, d], ``out`` [d, width], by the size of a normalised word."""
    size = (HIDDEN / (1 + 2 * _SIZE**2)) ** 0.5
    part = slice(head * WIDTH, (head + 1) * WIDTH)
    attention.q_proj.weight[part] = (query + 0.15 * torch.randn(WIDTH, HIDDEN)) / size
    attention.k_proj.weight[part] = (key + 0.15 * torch.randn(WIDTH, HIDDEN)) / size
    attention.v_proj.weight[part] = value / size
    attention.o_proj.weight[:, part] = out


def _one(turned: torch.Tensor, part: int) -> torch.Tensor:
    """A projection that reads one part of an embedding: [width, d]."""
    matrix = torch.zeros(WIDTH, HIDDEN)
    matrix[:, part] = turned / _SIZE
    return matrix


def _slot(part: int) -> torch.Tensor:
    """A projection of one part into the slowest turn: [width, d]."""
    matrix = torch.zeros(WIDTH, HIDDEN)
    matrix[WIDTH // 2 - 1, part] = 9.0 / _SIZE
    return matrix


def _bases(count: int) -> list[torch.Tensor]:
    """Orthonormal columns [d, width] each; as many of them as can are orthogonal to each other."""
    bases: list[torch.Tensor] = []
    while len(bases) < count:
        whole, _ = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))
        bases += whole.split(WIDTH, dim=1)
    return bases[:count]


def _speeds() -> torch.Tensor:
    half = WIDTH // 2
    return _TURNS ** -(torch.arange(half) / half)  # [width / 2], radians for each word of distance


def _slow() -> torch.Tensor:
    """1 for parts that turn less than a radian in 100 words, else 0: [width]."""
    keep = (_speeds() < 0.01).float()
    keep[-1] = 0  # left for `_slot`
    return torch.cat([keep, keep])


def _look(back: int, slowest: float, fastest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key, [width] each, that agree best so many words apart, by turns of these speeds."""
    speeds, half = _speeds(), WIDTH // 2
    used = ((speeds >= slowest) & (speeds <= fastest)).float()
    strength = (8.0 * WIDTH**0.5) ** 0.5
    query, key = torch.zeros(WIDTH), torch.zeros(WIDTH)
    query[:half], query[half:] = used * torch.cos(-back * speeds), used * torch.sin(-back * speeds)
    key[:half] = used
    return query * strength, key * strength
