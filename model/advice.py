"""Weighing what the model would do with what the shortlist says, where a reply begins.

The model reads the shortlist, but it has seen few words; the encoder knows many, but nothing of
plans. Their log-odds are added (a product of experts; Hinton 2002) where a reply chooses between
a call and words: where no skill on offer is near to what was said, nothing was asked for, and
where the nearest one has been called, nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Advice"]


@dataclass(frozen=True)
class Advice:
    """What the shortlist says of one request: the cosine of every skill by name.

    `call_weight` is in nats a cosine, counted from `neutral`, the cosine that speaks neither for
    a call nor against one; people's words are less near to a skill that neither the encoder nor
    the model was taught, hence `new_neutral` where such a one is the nearest. The model knows the
    `familiar` skills better than the encoder does; a new one is favoured by `name_weight` nats a
    cosine, as far as it is nearer to the request than all the familiar ones.

    After the first calls the encoder, which is nearest to the last step of a plan, tells where
    nothing more is wanted: `enough` nats where the nearest skill is among those `called`. Of the
    others those are favoured by `choice` nats of which the request says a choice (`chosen`), as
    "find the face and blur it" says one of `adjust`.
    """

    near: Mapping[str, float]
    familiar: AbstractSet[str] = frozenset()
    called: AbstractSet[str] = frozenset()
    chosen: AbstractSet[str] = frozenset()
    call_weight: float = 30.0
    neutral: float = 0.36
    new_neutral: float = 0.2
    name_weight: float = 15.0
    enough: float = -2.0
    choice: float = 4.0

    def for_call(self) -> float:
        """What is added to the log-odds of a call."""
        if self.called and self.near:
            nearest = max(self.near, key=self.near.__getitem__)
            return self.enough if nearest in self.called else 0.0
        neutral = self.new_neutral if self.ahead else self.neutral
        return self.call_weight * (max(self.near.values(), default=neutral) - neutral)

    def for_name(self, begun: str, piece: str) -> float:
        """What is added to the log-odds of `piece`, where a name is written as far as `begun`."""
        text = (begun + piece).lstrip(" ")
        fitting = (
            nats
            for name, nats in self.favoured.items()
            if f'{name}"'.startswith(text[: len(name) + 1])
        )
        return max(fitting, default=0.0)

    @cached_property
    def favoured(self) -> dict[str, float]:
        """The skills that are favoured where a name is written, by how many nats."""
        if self.called:
            return dict.fromkeys(self.chosen - self.called, self.choice)
        return {name: self.name_weight * near for name, near in self.ahead.items()}

    @cached_property
    def ahead(self) -> dict[str, float]:
        """The new skills that are nearer than all the familiar ones, by how much."""
        known = max((near for name, near in self.near.items() if name in self.familiar), default=0)
        return {
            name: near - known
            for name, near in self.near.items()
            if name not in self.familiar and near > known
        }
