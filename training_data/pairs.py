"""Requests with the skills that they need, for the encoder of the shortlist."""

from __future__ import annotations

import random

from ..model.shortlist import skill_text
from ..skills.calls import SkillSpec
from .bank import Bank, InventedSkill, Request
from .catalogue import catalogue
from .lettering import draw_word
from .slots import Filler, roughen
from .topics import draw_topic_skill

__all__ = ["Pairs"]


class Pairs:
    """Batches of pairs from the bank; batch `i` depends on the seed and `i` alone.

    Each has all the skills of the catalogue, and `invented` others.
    """

    def __init__(self, *, seed: int = 0, invented: int = 53) -> None:
        self._bank = Bank()
        self._seed = seed
        self._invented = invented
        self._plurals = dict(self._bank.nouns)

    def batch(self, index: int) -> list[tuple[str, str]]:
        """Requests and skill texts, every skill once."""
        rng = random.Random(f"{self._seed} pairs {index}")
        pairs = [self._known(name, rng) for name in catalogue()]
        for skill in rng.sample(self._bank.invented, self._invented):
            if self._bank.topics and rng.random() < 0.15:
                skill = draw_topic_skill(rng, self._bank.topics, self._plurals)
            pairs.append(self._pair(skill, rng))
        return pairs

    def _known(self, name: str, rng: random.Random) -> tuple[str, str]:
        spec = catalogue()[name]
        names, descriptions = self._bank.other_names[name]
        shown = rng.choice(names) if rng.random() < 0.15 else spec.name
        said = rng.choice(descriptions) if rng.random() < 0.3 else spec.description
        return self._text(rng.choice(self._bank.skills[name]), rng), _shown(spec, shown, said)

    def _pair(self, skill: InventedSkill, rng: random.Random) -> tuple[str, str]:
        name = draw_word(rng) if rng.random() < 0.3 else skill.spec.name
        said = rng.choice((skill.spec.description, *skill.descriptions))
        return self._text(rng.choice(skill.requests), rng), _shown(skill.spec, name, said)

    def _text(self, request: Request, rng: random.Random) -> str:
        bank = self._bank
        filler = Filler(rng, bank.nouns, prompts=bank.prompts, changes=bank.changes)
        return roughen(filler.fill(request.text), (), rng, ())


def _shown(spec: SkillSpec, name: str, description: str) -> str:
    return skill_text(spec.model_copy(update={"name": name, "description": description}))
