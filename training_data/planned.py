"""Requests of the bank with the skills that they want in order, for the planner."""

from __future__ import annotations

import random
from collections.abc import Iterator

from ..model.planner import Asked
from ..model.training.planner import Planned
from .bank import Bank, Plan, Step
from .catalogue import catalogue
from .slots import Filler, roughen
from .widening import one_after_another, several_things

__all__ = ["Lessons"]

_CHAINED = sorted(catalogue().keys() - {"inpaint"})
_NEEDS_NO_IMAGE = ("generate", "retrieve")
_WORDS_ALONE = 2.0
"""Requests without a skill count more, since there are fewer."""
_ANOTHER_SKILL = 0.7


class Lessons:
    """Draws lessons from the bank: every request `rounds` times, and `joined` made of several."""

    def __init__(self, bank: Bank | None = None, *, seed: int = 0) -> None:
        self._bank = bank or Bank()
        self._rng = random.Random(f"{seed} planned")
        self._remarks = [
            text
            for text, _ in self._bank.none
            if len(text) < 90 and text[-1] != "?" and "{" not in text
        ]
        self._ending = {
            name: [plan for plan in self._bank.plans if plan.rounds[-1][-1].skill == name]
            for name in _CHAINED
        }

    def draw(self, *, rounds: int = 2, joined: int = 16_000) -> list[Planned]:
        """All lessons, in the order of the bank."""
        lessons = [lesson for _ in range(rounds) for lesson in self._of_the_bank()]
        lessons += self._of_other_skills()
        return [*lessons, *(self._joined() for _ in range(joined))]

    def _of_the_bank(self) -> Iterator[Planned]:
        chance = self._rng.random
        for name, requests in self._bank.skills.items():
            for request in requests:
                wider = several_things(request, self._rng) if chance() < 0.3 else request
                plan = Plan(wider.text, ((Step(name, wider.arguments),),))
                yield self._wanting(plan)
                if chance() < 0.25:
                    yield self._wanting(self._remarked(plan))
        for plan in self._bank.plans:
            yield self._wanting(plan)
            if chance() < 0.3:
                yield self._wanting(self._remarked(plan))
        for plan in self._bank.marked:
            painted = "$sketch" in str(plan.rounds)
            asked = Asked(self._rough(plan.text), image=True, marked=True, masked=painted)
            yield Planned(asked, tuple(plan.skills))
        for text, _ in self._bank.none:
            yield self._wanting_none(text)
            another, _ = self._rng.choice(self._bank.none)
            if len(text) + len(another) < 200:
                yield self._wanting_none(f"{_closed(text)} {another}")

    def _of_other_skills(self) -> Iterator[Planned]:
        for text, _ in self._bank.missing:
            yield self._wanting_another(text, image=self._rng.random() < 0.65)
        for skill in self._bank.invented:
            for request in skill.requests:
                image = self._rng.random() < (0.95 if skill.takes_image else 0.15)
                yield self._wanting_another(request.text, image=image)

    def _joined(self) -> Planned:
        """Two wishes or three, one behind the other."""
        while True:
            names = self._rng.sample(_CHAINED, 2 if self._rng.random() < 0.85 else 3)
            wishes = [self._wish(name) for name in names]
            if "generate" in names[1:] or any(_speaks_of_masks(wish.text) for wish in wishes):
                continue
            plan = one_after_another(wishes, self._rng)
            if len(plan.skills) <= 5:
                return self._wanting(plan)

    def _wish(self, name: str) -> Plan:
        if self._ending[name] and self._rng.random() < 0.2:
            return self._rng.choice(self._ending[name])
        request = self._rng.choice(self._bank.skills[name])
        return Plan(request.text, ((Step(name, request.arguments),),))

    def _remarked(self, plan: Plan) -> Plan:
        return Plan(f"{_closed(self._rng.choice(self._remarks))} {plan.text}", plan.rounds)

    def _wanting(self, plan: Plan) -> Planned:
        first = plan.skills[0]
        image = self._rng.random() < (0.3 if first in _NEEDS_NO_IMAGE else 0.97)
        masked = _speaks_of_masks(plan.text) or self._rng.random() < 0.05
        return Planned(Asked(self._rough(plan.text), image, masked=masked), tuple(plan.skills))

    def _wanting_none(self, text: str) -> Planned:
        image, masked = self._rng.random() < 0.65, self._rng.random() < 0.05
        asked = Asked(self._filled(text), image=image, masked=masked)
        return Planned(asked, (), _WORDS_ALONE)

    def _wanting_another(self, text: str, *, image: bool) -> Planned:
        return Planned(Asked(self._rough(text), image=image), None, _ANOTHER_SKILL)

    def _rough(self, text: str) -> str:
        return roughen(self._filled(text), (), self._rng, self._remarks)

    def _filled(self, text: str) -> str:
        return Filler.of(self._bank, self._rng).fill(text.replace("{m}", "mask_1"))


def _speaks_of_masks(text: str) -> bool:
    return "mask_" in text or "{m}" in text


def _closed(text: str) -> str:
    """A text that another sentence can follow."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
