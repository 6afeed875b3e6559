"""A small language model that answers from numbered sources, pretrained here on synthetic text in minutes.

The folder is the model too: `LOREBASE_MODEL=examples/small_lm`. README.md is its card.
"""
