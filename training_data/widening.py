"""Wider requests from plain ones: several things at once, and one wish after another."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .bank import Plan, Request, Step

__all__ = ["one_after_another", "several_things"]

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


def one_after_another(requests: Sequence[tuple[str, Request]], rng: random.Random) -> Plan:
    """One wish behind the other in one message, each with the skill that it needs."""
    steps = tuple((Step(skill, dict(request.arguments)),) for skill, request in requests)
    wishes = [request for _, request in requests]
    if len(wishes) == 2 and rng.random() < 0.2:
        lead, joint = rng.choice(_NUMBERED)
        first, second = map(_inner, wishes)
        return Plan(f"{lead}{first.rstrip('.!?')}{joint}{second}", steps)
    text = wishes[0].text.strip()
    for wish in wishes[1:]:
        joints = _AFTER_QUESTION if text.endswith("?") else _JOINTS
        text = text.rstrip(".!") + rng.choice(joints) + _inner(wish)
    return Plan(text, steps)


def _inner(request: Request) -> str:
    """A request as it stands within another; words that are copied keep their capitals."""
    text = request.text.strip()
    values = (value.lstrip("[") for value in request.arguments.values())
    copied = any(value and text.startswith(value.split(",")[0].rstrip("]")) for value in values)
    plain = text[:1].isupper() and text[1:2].islower() and not copied
    return text[:1].lower() + text[1:] if plain else text
