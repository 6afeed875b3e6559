"""The generation engine: any decoder-only language model, batched anew at every step, with an adapter per row."""

from adapters.causal.engine import CausalEngine

__all__ = ["CausalEngine"]
