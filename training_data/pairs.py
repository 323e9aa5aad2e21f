"""Requests with the skills that they need, for the encoder of the shortlist."""

from __future__ import annotations

import random

from ..model.shortlist import request_text, skill_text
from ..model.training.encoder import Lesson
from .bank import Bank, InventedSkill
from .catalogue import catalogue
from .offers import invented_as, known_as
from .slots import Filler, roughen
from .topics import draw_topic_skill

__all__ = ["Pairs"]


class Pairs:
    """Lessons from the bank; lesson `i` depends on the seed and `i` alone.

    Each has all the skills of the catalogue, `invented` others, and `idle` requests without one.
    """

    def __init__(self, *, seed: int = 0, invented: int = 53, idle: int = 16) -> None:
        self._bank = Bank()
        self._seed = seed
        self._invented = invented
        self._idle = idle
        self._plurals = dict(self._bank.nouns)

    def lesson(self, index: int) -> Lesson:
        """Requests and skill texts, every skill once."""
        rng = random.Random(f"{self._seed} pairs {index}")
        pairs = [self._known(name, rng) for name in catalogue()]
        for skill in rng.sample(self._bank.invented, self._invented):
            if self._bank.topics and rng.random() < 0.15:
                skill = draw_topic_skill(rng, self._bank.topics, self._plurals)
            pairs.append(self._pair(skill, rng))
        idle = [
            self._text(text, rng, image=rng.random() < 0.65)
            for text, _ in rng.sample(self._bank.none, self._idle)
        ]
        return Lesson(pairs, idle)

    def _known(self, name: str, rng: random.Random) -> tuple[str, str]:
        spec = known_as(self._bank, rng, name)
        image = rng.random() < (0.2 if name == "generate" else 0.95)
        request = rng.choice(self._bank.skills[name])
        return self._text(request.text, rng, image=image), skill_text(spec)

    def _pair(self, skill: InventedSkill, rng: random.Random) -> tuple[str, str]:
        image = rng.random() < (0.95 if skill.takes_image else 0.15)
        request = rng.choice(skill.requests)
        return self._text(request.text, rng, image=image), skill_text(invented_as(rng, skill))

    def _text(self, request: str, rng: random.Random, *, image: bool) -> str:
        text = roughen(Filler.of(self._bank, rng).fill(request), (), rng, ())
        return request_text(text, image=image)
