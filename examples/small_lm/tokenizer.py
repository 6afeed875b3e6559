"""The small model's tokenizer: each word of the synthetic world is one token, all other text falls back to characters
and bytes, so nothing is lost.

Knows words and their pieces; knows no model.
"""

from __future__ import annotations

import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapters import ABSTENTION
from examples.small_lm.words import (
    ATTRIBUTES,
    FILLERS,
    KINDS,
    NAMES,
    NUMBERS,
    OTHER_WORDS,
    PEOPLE,
    QUESTIONS,
    STATEMENTS,
    UNITS,
    WORD_VALUES,
    YEARS,
)

PAD, END, USER, ASSISTANT = "<pad>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (  # the system text is left out: so small a model can't follow one
    "{% for m in messages %}{% if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPACE = "▁"
_PIECE = rf"{_SPACE}?[A-Za-z]+|{_SPACE}?[0-9]+|\[[0-9]+\]|</?sources>|{_SPACE}|."
_WORD = re.compile(r"[A-Za-z]+|[0-9]+")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, the same at every call."""
    special = [PAD, END, USER, ASSISTANT]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), _SPACE, "\n", *string.printable[:95].strip()]
    pieces += ["<sources>", "</sources>", "Question", "Answer", *(f"[{n}]" for n in range(1, 21))]
    pieces += [_SPACE + word for word in _words()]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    bpe = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, ignore_merges=True))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
        ]
    )
    bpe.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, additional_special_tokens=[USER, ASSISTANT]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _words() -> list[str]:
    texts = [*NAMES, *KINDS, *NUMBERS, *YEARS, *UNITS.values(), *ATTRIBUTES, *FILLERS, *STATEMENTS, *QUESTIONS]
    texts += [word for words in (*PEOPLE, *WORD_VALUES.values()) for word in words]
    texts += [*OTHER_WORDS, ABSTENTION]
    return [word for text in texts for word in _WORD.findall(text)]
