"""Skills drawn at random, each about one thing: asked for in related words, never by its name.

There is no end of them, so that they cannot be learned by heart: the model has to find the
description that is nearest in meaning to a request.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ..skills.calls import SkillSpec
from ..skills.skill import HANDLE_PATTERNS
from .bank import InventedSkill, Request
from .lettering import draw_word

__all__ = ["draw_topic_skill"]

_DESCRIPTIONS = (
    "Answer questions about {as}.",
    "Check {as} for faults.",
    "Everything to do with {as}.",
    "{a} expert",
    "Look up what a {a} costs.",
    "Give advice on {as}, from people who know them.",
    "Tells the age, make and worth of a {a}.",
    "A helper for all who own a {a}.",
    "Identify the kind of {a} in a picture.",
    "Find {as} to buy or rent nearby.",
    "Explain how to look after {as} and repair them.",
    "Facts and figures about the {a}.",
    "Use this when somebody needs a {a}.",
    "Knows {as}.",
    "Inspects a {a} and reports its condition in a sentence or two.",
    "Our database of {as}",
)
_REQUESTS = (
    "{x}?",
    "it is about {x}",
    "i need something for {x}",
    "Can you help me with this: {x}.",
    "what do you know about {x}",
    "anything on {x}",
    "I have a question, it has to do with {x}",
    "{x}, what should I do",
    "My neighbour keeps talking about {x}. Find out more.",
    "tell me about {x} please",
    "Who could tell me something on the subject of {x}?",
    "look into {x} for me",
    "I'd like to know more, the matter is {x}",
    "can u check {x}",
    "we were wondering about {x} yesterday",
    "{x} - what can you tell me",
    "Not sure what to do here... {x}",
    "in this picture you can see it: {x}, right?",
    "have a look at this, {x}",
    "{x} and {y}",
    "is it {x} or rather {y}?",
    "Something with {x}, or {y}.",
)
_ARGUMENTS = ("image", "photo", "picture")


def draw_topic_skill(
    rng: random.Random, topics: Mapping[str, Sequence[str]], plurals: Mapping[str, str]
) -> InventedSkill:
    """One skill about one of the `topics` (a thing and its related words)."""
    thing = rng.choice(list(topics))
    words = {"{a}": thing, "{as}": plurals.get(thing, f"{thing}s")}
    description = rng.choice(_DESCRIPTIONS)
    for slot, word in words.items():
        description = description.replace(slot, word)
    own = thing.replace(" ", "_").replace("-", "_").lower()
    name = draw_word(rng) if rng.random() < 0.5 else f"{own}_{rng.choice(('help', 'info', 'x'))}"
    handle = {"type": "string", "pattern": HANDLE_PATTERNS["image"]}
    argument = rng.choice(_ARGUMENTS)
    takes_image = rng.random() < 0.6
    parameters = {
        "type": "object",
        "properties": {argument: handle} if takes_image else {},
        "required": [argument] if takes_image else [],
        "additionalProperties": False,
    }
    spec = SkillSpec(name=name, description=description, parameters=parameters)
    return InventedSkill(spec, tuple(_requests(rng, topics[thing])), f"{thing}: nothing to report.")


def _requests(rng: random.Random, phrases: Sequence[str]) -> list[Request]:
    requests = []
    for mould in rng.sample(_REQUESTS, 4):
        x, y = rng.sample(phrases, 2) if len(phrases) > 1 else (phrases[0], "that")
        requests.append(Request(mould.replace("{x}", x).replace("{y}", y)))
    return requests
