"""Wider requests from plain ones: several things at once, and one wish after another."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .bank import Plan, Request, Step

__all__ = ["one_after_another", "several_things"]

_THING = re.compile(r"\{([abc])(s?)\}")
_ONE_LABEL = re.compile(r"\[\{a(s?)\}\]")
_JOINTS = (", then ", " and then ", ". Then ", ". After that, ", ", and ", "; then ", ". And ")
_AFTER_QUESTION = (" Then ", " After that, ", " And then ", " And ")
_NUMBERED = (
    ("First ", ". Second, "),
    ("1. ", " 2. "),
    ("first ", ", next "),
    ("Two things: ", "; "),
)


def several_things(request: Request, rng: random.Random) -> Request:
    """Ask for two or three things where a request asks for one: `the {a}`, `the {a} and the {b}`.

    A request with labels of its own, or with other slots, stays as it is.
    """
    match = _ONE_LABEL.fullmatch(request.arguments.get("labels", ""))
    if not match or request.text.count("{") != 1:
        return request
    letters = "abc"[: rng.choice((2, 2, 3))]
    slots = [f"{{{letter}{match[1]}}}" for letter in letters]
    articles = r"((?:\b(?:the|my|an?|all the|every|each|some|any) )?)"
    found = re.search(articles + re.escape(slots[0]), request.text)
    if not found:
        return request
    before = "" if found[1].startswith(("all", "some", "any")) else found[1]
    joint = rng.choice((" and ", " and ", " or " if "?" in request.text else " & "))
    listed = found[1] + f", {before}".join(slots[:-1]) + joint + before + slots[-1]
    text = request.text[: found.start()] + listed + request.text[found.end() :]
    return Request(text, {**request.arguments, "labels": f"[{', '.join(slots)}]"})


def one_after_another(wishes: Sequence[Plan], rng: random.Random) -> Plan:
    """One wish behind the other in one message, mostly each about things of its own."""
    letters = ["abc", "def", "uvw"]
    if rng.random() < 0.7:
        wishes = [_about_others(wish, to) for wish, to in zip(wishes, letters, strict=False)]
    rounds = tuple(steps for wish in wishes for steps in wish.rounds)
    if len(wishes) == 2 and rng.random() < 0.2:
        lead, joint = rng.choice(_NUMBERED)
        first, second = map(_inner, wishes)
        return Plan(f"{lead}{first.rstrip('.!?')}{joint}{second}", rounds)
    text = wishes[0].text.strip()
    for wish in wishes[1:]:
        joints = _AFTER_QUESTION if text.endswith("?") else _JOINTS
        text = text.rstrip(".!") + rng.choice(joints) + _inner(wish)
    return Plan(text, rounds)


def _about_others(wish: Plan, letters: str) -> Plan:
    """The same wish with the slots of its things under other letters."""

    def rename(text: str) -> str:
        return _THING.sub(lambda match: f"{{{letters['abc'.index(match[1])]}{match[2]}}}", text)

    rounds = tuple(
        tuple(
            Step(step.skill, {key: rename(value) for key, value in step.arguments.items()})
            for step in steps
        )
        for steps in wish.rounds
    )
    return Plan(rename(wish.text), rounds)


def _inner(wish: Plan) -> str:
    """A wish as it stands within another; words that are copied keep their capitals."""
    text = wish.text.strip()
    steps = [step for steps in wish.rounds for step in steps]
    values = [value.lstrip("[") for step in steps for value in step.arguments.values()]
    copied = any(value and text.startswith(value.split(",")[0].rstrip("]")) for value in values)
    plain = text[:1].isupper() and text[1:2].islower() and not copied
    return text[:1].lower() + text[1:] if plain else text
