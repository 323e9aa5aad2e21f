"""Weighing what the model would do with what shortlist and planner say, where a reply begins.

The model reads the shortlist, but it has seen few words; the encoder knows many. Their log-odds
are added (a product of experts; Hinton 2002) where a reply chooses between a call and words, and
between the skills that it could call. Of the skills that the project trains on the planner tells
what a request wants first, next, and no more; of a new one the encoder tells how near it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .planner import Outlook

__all__ = ["Advice"]


@dataclass(frozen=True)
class Advice:
    """What is said of one reply: the cosine of every skill by name, and the planner's `outlook`.

    The model knows the `familiar` skills better than the encoder does. Where a new one is the
    nearest, `call_weight` nats a cosine speak for a call, counted from `neutral`, the cosine that
    speaks neither for one nor against; it is favoured by `name_weight` nats a cosine, as far as it
    is nearer than all the familiar ones; and once it has been `called`, `enough` nats speak for
    words. Elsewhere the outlook counts `plan_weight` times for a call, since the model is surer of
    itself than it is right, and `order_weight` times between names, since it reads order better.
    """

    near: Mapping[str, float]
    familiar: AbstractSet[str] = frozenset()
    called: AbstractSet[str] = frozenset()
    outlook: Outlook | None = None
    call_weight: float = 30.0
    neutral: float = 0.2
    name_weight: float = 15.0
    enough: float = -2.0
    plan_weight: float = 3.0
    order_weight: float = 1.0

    def for_call(self) -> float:
        """What is added to the log-odds of a call."""
        if not self.ahead:
            return self.plan_weight * self.outlook.for_call if self.outlook else 0.0
        if self.called:
            nearest = max(self.near, key=self.near.__getitem__)
            return self.enough if nearest in self.called else 0.0
        return self.call_weight * (max(self.near.values()) - self.neutral)

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
        """How many nats each skill is favoured by where a name is written."""
        nats = self._planned
        if not self.called:
            for name, near in self.ahead.items():
                nats[name] = nats.get(name, 0.0) + self.name_weight * near
        return nats

    @property
    def _planned(self) -> dict[str, float]:
        """What the outlook favours; it knows nothing of new skills, so one ahead loses nothing."""
        odds = self.outlook.skills if self.outlook else {}
        most, least = max(odds.values(), default=0.0), min(odds.values(), default=0.0)
        return {
            name: self.order_weight * ((most if name in self.ahead else one) - least)
            for name, one in odds.items()
        }

    @cached_property
    def ahead(self) -> dict[str, float]:
        """The new skills that are nearer than all the familiar ones, by how much."""
        known = max((near for name, near in self.near.items() if name in self.familiar), default=0)
        return {
            name: near - known
            for name, near in self.near.items()
            if name not in self.familiar and near > known
        }
