"""Filling the slots of hand-written requests and roughening them the way people type."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .lettering import draw_line, draw_word

if TYPE_CHECKING:
    from .bank import Bank

__all__ = ["Filler", "fill_value", "roughen"]

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])n? (\{[a-fu-w]\})")
_MODIFIERS = (
    "red blue green yellow white black brown grey orange old new small big broken wooden metal "
    "little large shiny dirty tall round striped empty"
).split()


@dataclass
class Filler:
    """Chooses what the slots of one request stand for; the same letter gets the same filling."""

    rng: random.Random
    nouns: Sequence[tuple[str, str]]
    image: str = "img_1"
    mask: str = "mask_1"
    prompts: Sequence[str] = ()
    changes: Sequence[str] = ()
    chosen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, bank: Bank, rng: random.Random, image: str = "img_1", mask: str = "mask_1"
    ) -> Filler:
        """A filler with all the words of a bank."""
        return cls(rng, bank.nouns, image, mask, bank.prompts, bank.changes)

    def fill(self, text: str) -> str:
        """Put words in place of the slots, with `a` or `an` as the word wants it."""
        text = _ARTICLE.sub(lambda m: f"{m[1]}{'n' * self._vowel(m[2])} {m[2]}", text)
        return _SLOT.sub(lambda match: self._word(match[1]), text)

    def _vowel(self, slot: str) -> bool:
        return self._word(slot.strip("{}"))[0].lower() in "aeiou"

    def _word(self, slot: str) -> str:
        if slot not in self.chosen:
            self._choose(slot)
        return self.chosen[slot]

    def _choose(self, slot: str) -> None:
        if slot == "n":
            self.chosen[slot] = str(self.rng.randint(2, 9))
        elif slot == "text":
            self.chosen[slot] = draw_line(self.rng, self.nouns)
        elif slot == "h":
            self.chosen[slot] = self.image
        elif slot == "m":
            self.chosen[slot] = self.mask
        elif slot == "words":
            parts = [self._part() for _ in range(self.rng.randint(2, 7))]
            self.chosen[slot] = self.rng.choice((", ", " ", " / ", " and ")).join(parts)
        elif slot == "scene":
            self.chosen[slot] = self.fill(self.rng.choice(self.prompts))
        elif slot == "change":
            self.chosen[slot] = self.fill(self.rng.choice(self.changes))
        else:
            one, many = self._noun()
            letter = slot[0]
            self.chosen[letter], self.chosen[f"{letter}s"] = one, many

    def _part(self) -> str:
        if self.rng.random() < 0.4:
            return draw_line(self.rng, self.nouns)
        return self._noun()[self.rng.randint(0, 1)]

    def _noun(self) -> tuple[str, str]:
        chance = self.rng.random()
        if chance < 0.08:
            word = draw_word(self.rng)
            return word, f"{word}s"
        one, many = self.rng.choice(self.nouns)
        if chance < 0.25:
            modifier = self.rng.choice(_MODIFIERS)
            return f"{modifier} {one}", f"{modifier} {many}"
        return one, many


def fill_value(value: str, filler: Filler, schema: Mapping[str, Any] | None = None) -> object:
    """Read one argument of the bank: a list in brackets, a number, true or false, or text.

    Brackets within brackets are boxes or points.

    Where `schema` wants text, what looks like a number stays text.
    """
    filled = filler.fill(value)
    schema = schema or {}
    if schema.get("type") == "string":
        return filled
    if filled.startswith("[["):
        return json.loads(filled)
    if filled.startswith("[") and filled.endswith("]"):
        items = [item.strip() for item in filled[1:-1].split(",") if item.strip()]
        words = schema.get("items", {}).get("type") == "string"
        return items if words else [_scalar(item) for item in items]
    return _scalar(filled)


def _scalar(text: str) -> object:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"-?\d*\.\d+", text):
        return float(text)
    return {"true": True, "false": False}.get(text, text)


_OPENINGS = "hey, |hi, |hello! |ok |okay, |so, |please |pls |can you |could you please |well, |um "
_ENDINGS = " please| thanks|, thanks!| pls| thx| asap| if you can|, ok?| :)| now|..."


def roughen(text: str, kept: Sequence[str], rng: random.Random, remarks: Sequence[str]) -> str:
    """Vary a request as people do: courtesies, a remark before it, lost capitals, typos.

    The words in `kept` (arguments that are copied from the request) stay as they are.
    """
    chance = rng.random
    if chance() < 0.07 and remarks:
        text = f"{rng.choice(remarks).rstrip()} {text}"
    if chance() < 0.08:
        opening = rng.choice(_OPENINGS.split("|"))
        text = opening + (text if kept and text.startswith(tuple(kept)) else _lower_first(text))
    if chance() < 0.08:
        text = text.rstrip(".!?") + rng.choice(_ENDINGS.split("|"))
    if chance() < 0.2:
        text = text.rstrip(".!? ")
    if chance() < 0.1:
        text = _with_typo(text, kept, rng)
    return text or "?"


def _lower_first(text: str) -> str:
    return text if text[:2] in ("I ", "I'") else text[:1].lower() + text[1:]


def _with_typo(text: str, kept: Sequence[str], rng: random.Random) -> str:
    """Swap, drop or double one letter in a longer word that is no argument."""
    words = text.split(" ")
    arguments = {word for value in kept for word in value.split()}
    long = [i for i, word in enumerate(words) if len(word) > 4 and word not in arguments]
    if not long:
        return text
    index = rng.choice(long)
    word = words[index]
    at = rng.randint(1, len(word) - 2)
    words[index] = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )
    return " ".join(words)
