"""Which token comes next: the likeliest, or one drawn by temperature and nucleus (top-p, Holtzman et al. 2020).

Pure functions over scores. Knows no model and no text.
"""

from __future__ import annotations

import math

import torch

from adapters.engine import Row


def generator_of(row: Row) -> torch.Generator | None:
    """A row's own source of chance, so that its draws do not depend on who shares its batch; None for greedy rows."""
    if row.temperature <= 0:
        return None
    generator = torch.Generator()
    if row.seed is None:
        generator.seed()
    else:
        generator.manual_seed(row.seed % 2**63)
    return generator


def draw(scores: torch.Tensor, row: Row, generator: torch.Generator) -> int:
    """A token drawn from ``scores`` [V]; they must be finite."""
    probabilities = torch.softmax(scores.double().cpu() / max(row.temperature, 1e-4), -1)  # [V]
    if row.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True)  # [V], [V]
        before = ordered.cumsum(-1) - ordered  # [V], of what is likelier
        kept = ordered.masked_fill(before >= max(row.top_p, 0.0), 0.0)  # [V]
        kept[0] = ordered[0]
        return int(tokens[torch.multinomial(kept, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))


def choose(scores: torch.Tensor, rows: list[tuple[Row, torch.Generator | None]]) -> list[tuple[int, float]]:
    """The next token of each row and its log-probability by the model; NaN where scores are not finite.

    Args:
        scores: [B, V], float32.
    """
    total = scores.logsumexp(-1)  # [B]
    best, tokens = scores.max(-1)  # [B], [B]
    chosen: list[tuple[int, float]] = []
    for i, (token, log_probability) in enumerate(zip(tokens.tolist(), (best - total).tolist(), strict=True)):
        row, generator = rows[i]
        if generator is None or not math.isfinite(log_probability):
            chosen.append((token, log_probability))
        else:
            drawn = draw(scores[i], row, generator)
            chosen.append((drawn, float(scores[i, drawn] - total[i])))
    return chosen
