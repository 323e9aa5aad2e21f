"""Weighing what the model would do with what the shortlist says, while a reply is decoded.

The model reads the shortlist, but it has seen few skills and trusts its own reading too much; the
encoder knows many words but nothing of plans and small talk. Their log-odds are added (a product
of experts; Hinton 2002) where a reply chooses between a call and words, and between skills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Advice"]


@dataclass(frozen=True)
class Advice:
    """What the shortlist says of one request: the cosine of every skill by name.

    `call_weight` is in nats a cosine, counted from `neutral`, the cosine that speaks neither for
    a call nor against one; `name_weight` likewise between skills.
    """

    near: Mapping[str, float]
    call_weight: float = 25.0
    neutral: float = 0.35
    name_weight: float = 9.0

    def for_call(self) -> float:
        """What is added to the log-odds of a call."""
        return self.call_weight * (max(self.near.values(), default=self.neutral) - self.neutral)

    def for_name(self, begun: str, piece: str) -> float:
        """What is added to the log-odds of `piece`, where a name is written as far as `begun`."""
        text = (begun + piece).lstrip(" ")
        fitting = [
            near for name, near in self.near.items() if f'{name}"'.startswith(text[: len(name) + 1])
        ]
        return self.name_weight * max(fitting, default=0.0)
