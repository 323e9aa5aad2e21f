"""Texts that share most of their words, found exactly and without comparing all with all."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["NearTexts"]

_WORD = re.compile(r"\w+")
_FEWEST = 4
"""Shorter texts are like each other by chance."""


class NearTexts:
    """Finds a text whose set of words overlaps another's by at least `least` (Jaccard).

    Two such sets share a word among the rarest few of each, so only those are looked up (prefix
    filtering; Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"). Takes
    about 200 bytes a text; a set of words is kept once.
    """

    def __init__(self, least: float = 0.8) -> None:
        self._least = least
        self._numbers: dict[str, int] = {}
        self._counts: list[int] = []
        self._names: dict[tuple[int, ...], str] = {}
        self._prefixes: dict[int, list[tuple[int, ...]]] | None = None

    def add(self, text: str, name: str) -> None:
        """Keep a text under a name; of texts with the same words, the first."""
        words = _words(text)
        if len(words) < _FEWEST:
            return
        self._prefixes = None
        numbers = tuple(sorted(self._number(word) for word in words))
        if numbers not in self._names:
            self._names[numbers] = name
            for number in numbers:
                self._counts[number] += 1

    def near(self, text: str) -> tuple[str, float] | None:
        """The name of the nearest text, and the overlap, where one is near enough."""
        words = _words(text)
        if len(words) < _FEWEST:
            return None
        known = {self._numbers[word] for word in words if word in self._numbers}
        # Words that no other text has are the rarest of all.
        looked_up = self._prefix_length(len(words)) - (len(words) - len(known))
        prefixes = self._indexed()
        best: tuple[float, str] | None = None
        for number in self._by_rarity(known)[: max(0, looked_up)]:
            for other in prefixes.get(number, ()):
                shared = len(known.intersection(other))
                overlap = shared / (len(words) + len(other) - shared)
                if overlap >= self._least and (best is None or overlap > best[0]):
                    best = overlap, self._names[other]
        return (best[1], best[0]) if best else None

    def _number(self, word: str) -> int:
        number = self._numbers.setdefault(word, len(self._numbers))
        if number == len(self._counts):
            self._counts.append(0)
        return number

    def _indexed(self) -> dict[int, list[tuple[int, ...]]]:
        if self._prefixes is None:
            self._prefixes = defaultdict(list)
            for numbers in self._names:
                for number in self._by_rarity(numbers)[: self._prefix_length(len(numbers))]:
                    self._prefixes[number].append(numbers)
        return self._prefixes

    def _by_rarity(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers, key=lambda number: (self._counts[number], number))

    def _prefix_length(self, size: int) -> int:
        # The tiny part keeps 0.8 * 5 from being more than 4.
        return size - math.ceil(self._least * size - 1e-9) + 1


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))
