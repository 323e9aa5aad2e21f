"""Weighing what the model would do with what the shortlist says, where a reply begins.

The model reads the shortlist, but it has seen few words; the encoder knows many, but nothing of
plans. Their log-odds are added (a product of experts; Hinton 2002) where a reply chooses between
a call and words: where no skill on offer is near to what was said, nothing was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Advice"]


@dataclass(frozen=True)
class Advice:
    """What the shortlist says of one request: the cosine of every skill by name.

    `call_weight` is in nats a cosine, counted from `neutral`, the cosine that speaks neither for
    a call nor against one.
    """

    near: Mapping[str, float]
    call_weight: float = 20.0
    neutral: float = 0.33

    def for_call(self) -> float:
        """What is added to the log-odds of a call."""
        return self.call_weight * (max(self.near.values(), default=self.neutral) - self.neutral)
