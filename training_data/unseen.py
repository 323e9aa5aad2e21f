"""Held-out skills: cases that ask for a skill which no model of this project was trained on."""

from __future__ import annotations

import random
from pathlib import Path

from ..skills.calls import SkillSpec
from ..skills.errors import BadInput
from .bank import Bank, InventedSkill, read_invented
from .catalogue import EMBEDDED, catalogue
from .evaluate import Case, ExpectedCall
from .slots import Filler, fill_value

__all__ = ["UNSEEN", "unseen_cases"]

UNSEEN = Path(__file__).parent / "heldout" / "skills.txt"


def unseen_cases(offered: int, path: Path = UNSEEN, seed: int = 0) -> list[Case]:
    """One case for every request of every skill in `path`, with `offered` skills to choose from.

    On offer are the skill itself, the four installed ones, and others of the same file; from 30
    on the whole catalogue takes the place of the installed ones. Raises `BadInput` when there are
    not so many.
    """
    skills = read_invented(path)
    if offered > (most := len(skills) + len(_known(offered))):
        raise BadInput(
            f"{offered} skills cannot be on offer: with those of {path.name} there are {most}"
        )
    rng = random.Random(seed)
    bank = Bank()
    cases = []
    for skill in skills:
        for number, request in enumerate(skill.requests, start=1):
            filler = Filler.of(bank, rng)
            properties = skill.spec.parameters["properties"]
            arguments = {
                key: fill_value(value, filler, properties[key])
                for key, value in request.arguments.items()
            }
            cases.append(
                Case(
                    id=f"{skill.spec.name}-{number}",
                    request=filler.fill(request.text),
                    images=int(any("pattern" in schema for schema in properties.values())),
                    tools=_offer(skill, skills, offered, rng),
                    expect=[ExpectedCall(name=skill.spec.name, arguments=arguments)],
                )
            )
    return cases


def _offer(
    skill: InventedSkill, skills: list[InventedSkill], offered: int, rng: random.Random
) -> list[dict[str, object]]:
    known = _known(offered)
    others = [other.spec for other in skills if other is not skill]
    chosen = [skill.spec, *known[: offered - 1]]
    chosen += rng.sample(others, max(0, offered - len(chosen)))
    return [spec.tool() for spec in rng.sample(chosen, len(chosen))]


def _known(offered: int) -> list[SkillSpec]:
    return [catalogue()[name] for name in (catalogue() if offered >= 30 else EMBEDDED)]
