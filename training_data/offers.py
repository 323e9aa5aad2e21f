"""Drawing what is on offer: skills in random number, under other names, in other words."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..skills.calls import SkillSpec
from .bank import Bank, InventedSkill
from .catalogue import EMBEDDED, catalogue
from .lettering import draw_word
from .topics import draw_topic_skill

__all__ = ["Offer", "draw_offer", "invented_as", "known_as"]

_ARGUMENT_NAMES = {
    "labels": ("objects", "things", "classes", "targets"),
    "prompt": ("text", "description"),
    "instruction": ("command", "change", "prompt"),
    "operation": ("action", "effect", "op"),
    "query": ("text", "search"),
    "image": ("img", "photo", "picture", "image_id"),
}


@dataclass
class Offer:
    """The skills of one prompt: for each, the spec that is shown and what it really is."""

    shown: dict[str, SkillSpec] = field(default_factory=dict)
    """Specs as the prompt has them, by the skill's true name."""
    arguments: dict[str, dict[str, str]] = field(default_factory=dict)
    """True argument names to shown ones, by the skill's true name."""
    invented: dict[str, InventedSkill] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        """Whether all of these catalogue skills are on offer."""
        return all(name in self.shown for name in names)

    def true_parameters(self, name: str) -> dict[str, Any]:
        """The JSON schema of a skill's arguments under their true names."""
        if name in self.invented:
            return self.invented[name].spec.parameters
        return catalogue()[name].parameters


def draw_offer(bank: Bank, rng: random.Random) -> Offer:
    """Choose which skills are on offer, and how they are named and described."""
    known = list(catalogue())
    if (kind := rng.random()) < 0.25:
        chosen = list(EMBEDDED)
    else:
        chosen = known if kind < 0.4 else rng.sample(known, rng.randint(0, len(known)))
    count = rng.choice((0, 1, 1, 2, 3, 4, 6, 8, 12, 18, 24))
    if len(chosen) < 3:
        count = max(count, rng.randint(4, 14))
    offer = Offer()
    for name in chosen:
        _show(rng, offer, name, known_as(bank, rng, name))
    for drawn in rng.sample(bank.invented, count):
        about_a_thing = bank.topics and rng.random() < 0.45
        skill = draw_topic_skill(rng, bank.topics, dict(bank.nouns)) if about_a_thing else drawn
        if skill.spec.name not in offer.shown:
            _show(rng, offer, skill.spec.name, invented_as(rng, skill))
            offer.invented[skill.spec.name] = skill
    return offer


def known_as(bank: Bank, rng: random.Random, true_name: str) -> SkillSpec:
    """A catalogue skill, sometimes under another name or in other words."""
    spec = catalogue()[true_name]
    names, descriptions = bank.other_names[true_name]
    name = rng.choice(names) if rng.random() < 0.15 else spec.name
    description = rng.choice(descriptions) if rng.random() < 0.3 else spec.description
    return spec.model_copy(update={"name": name, "description": description})


def invented_as(rng: random.Random, skill: InventedSkill) -> SkillSpec:
    """An invented skill, now and then under a name that tells nothing but what is described."""
    name = skill.spec.name
    if rng.random() < 0.3:
        name = draw_word(rng) + rng.choice(("", "", f"_{rng.randint(1, 9)}"))
    description = rng.choice((skill.spec.description, *skill.descriptions))
    return skill.spec.model_copy(update={"name": name, "description": description})


def _show(rng: random.Random, offer: Offer, true_name: str, spec: SkillSpec) -> None:
    """Put a skill on offer, sometimes with other names of its arguments."""
    renames = _renames(spec, rng) if rng.random() < 0.15 else {}
    taken = {shown.name for shown in offer.shown.values()}
    offer.arguments[true_name] = renames
    offer.shown[true_name] = SkillSpec(
        name=true_name if spec.name in taken else spec.name,
        description=spec.description,
        parameters=_vary(spec.parameters, renames, rng),
    )


def _renames(spec: SkillSpec, rng: random.Random) -> dict[str, str]:
    """Other names of some arguments; none where one of them would be another's name."""
    own = spec.parameters["properties"]
    renames = {
        old: rng.choice(_ARGUMENT_NAMES[old])
        for old in own
        if old in _ARGUMENT_NAMES and rng.random() < 0.5
    }
    clash = len({*own, *renames.values()}) < len(own) + len(renames)
    return {} if clash else renames


def _vary(
    parameters: dict[str, Any], renames: Mapping[str, str], rng: random.Random
) -> dict[str, Any]:
    """Rename arguments, and show handles as plain strings now and then, as other specs do."""
    plain = rng.random() < 0.15
    properties = {}
    for name, schema in parameters["properties"].items():
        varied = schema
        if plain and "pattern" in schema:
            varied = {"type": "string"}
        properties[renames.get(name, name)] = varied
    required = [renames.get(name, name) for name in parameters.get("required", ())]
    return {**parameters, "properties": properties, "required": required}
