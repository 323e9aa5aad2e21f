"""Everyday words for the few kinds of things that OpenCV's classic detectors know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..wording import joined, singular

__all__ = ["KINDS", "Meaning", "caveat", "meaning"]


class Meaning(NamedTuple):
    """What a label means to the detector; a `narrow` one asks for more than it can tell."""

    kind: str
    narrow: bool = False


_SAME: dict[str, tuple[str, ...]] = {
    "face": ("face", "human face", "head", "human head"),
    "person": (
        *("person", "human", "human being", "human figure", "pedestrian", "individual"),
        *("somebody", "someone", "anybody", "anyone", "body", "human body", "full body"),
    ),
    "upper body": ("upper body", "torso", "bust"),
    "eye": ("eye", "human eye", "pair of eyes"),
    "smile": ("smile", "smiling face", "smiling mouth"),
    "cat face": ("cat face", "cat's face", "cat head", "cat's head"),
    "number plate": (
        *("number plate", "numberplate", "license plate", "licence plate", "registration plate"),
        *("car plate", "car number plate", "car license plate", "vehicle plate"),
    ),
    "QR code": ("qr code", "qrcode", "qr", "qr-code"),
    "barcode": ("barcode", "bar code", "bar-code", "ean code", "product code"),
}
"""Words, in the singular, that mean exactly what is found."""

_NARROW: dict[str, tuple[str, ...]] = {
    "person": (
        *("man", "woman", "boy", "girl", "child", "kid", "adult", "guy", "lady", "gentleman"),
        *("teenager", "toddler", "bystander", "passer-by", "passerby", "visitor", "tourist"),
        *("guest", "player", "worker", "colleague", "friend", "stranger"),
    ),
}
"""Words, in the singular, for some of what is found; the others are found as well."""

KINDS = tuple(_SAME)

_MEANINGS = {word: Meaning(kind) for kind, words in _SAME.items() for word in words}
_MEANINGS |= {word: Meaning(kind, True) for kind, words in _NARROW.items() for word in words}
_OWNER = re.compile(r"(?P<owner>.+?)(?:'s|s'|') (?P<thing>.+)")


def meaning(label: str) -> Meaning | None:
    """What `label` means to the detector, or None when it knows nothing of the kind."""
    words = " ".join(label.lower().replace("’", "'").split())  # noqa: RUF001 - typed by people
    words = words.removeprefix("the ").removeprefix("a ").removeprefix("an ")
    if known := _MEANINGS.get(words) or _MEANINGS.get(singular(words)):
        return known
    if owned := _OWNER.fullmatch(words):  # "the man's face", "kids' faces"
        owner, thing = meaning(owned["owner"]), meaning(owned["thing"])
        if owner and thing and owner.kind == "person":
            return Meaning(thing.kind, owner.narrow)
    return None


def caveat(meanings: Iterable[tuple[str, Meaning]]) -> str:
    """A sentence about the labels that ask for more than can be told, or nothing."""
    narrow: dict[str, list[str]] = {}
    for label, known in meanings:
        if known.narrow:
            narrow.setdefault(known.kind, []).append(singular(label))
    return " ".join(
        f"Any {kind} counts as {joined(labels)} to this detector."
        for kind, labels in narrow.items()
    )
