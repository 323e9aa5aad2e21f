"""Keeping to the words that are there, while a reply is decoded.

What a call looks for mostly stands in the request, and what an answer tells in the result; yet a
small model that copies slips into likelier words on the way. So where its text goes on a passage
of the source, what follows there is favoured (a soft pointer; See et al. 2017).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Copying"]

_SHORTEST = 3
"""A passage of fewer letters says nothing, unless it is all that is written."""
_LONGEST = 8
"""So many words before the end tell where in the source it is."""
_BETWEEN = re.compile(r"(?:\s*[/,;])?\s*$")
"""What stands between two lines that are told one after the other."""
_NEXT_WORD = re.compile(r",? ?[\w-]")
"""How a text goes on within a clause."""


@dataclass(frozen=True)
class Copying:
    """The texts that a reply may copy from, and how many nats what follows there gets."""

    source: str
    weight: float = 4.0
    opening: float = 0.0
    """So many nats for every word of the source, where nothing is written yet."""
    going_on: float = 0.0
    """So many nats for the rest of a clause, where the model would end what it copies."""

    def following(self, begun: str) -> list[str]:
        """What follows in the source, to the line's end, on the longest end of `begun` in it.

        After a line's last word that is the next line.
        """
        begun = begun.lstrip()
        for start in _word_starts(begun)[-_LONGEST:]:
            passage = begun[start:]
            if start and len(passage.strip()) < _SHORTEST:
                break
            if ends := self._ends_of(passage):
                return [self.source[end:].split("\n", 1)[0] for end in ends]
        return self._next_lines(begun)

    @staticmethod
    def clause(rests: Sequence[str]) -> list[str]:
        """Those of the `rests` that go on within a clause."""
        return [rest for rest in rests if _NEXT_WORD.match(rest)]

    def beginnings(self, begun: str) -> list[str]:
        """Every word of the source with what follows it, for a text that `begun` has to begin."""
        words = [self.source[start:].split("\n", 1)[0] for start in _word_starts(self.source)]
        return words if begun else [*words, *(f" {word}" for word in words)]

    def _next_lines(self, begun: str) -> list[str]:
        """The lines after those of which the last words stand before a sign that parts lines."""
        said = _BETWEEN.sub("", begun, count=1)
        parted = begun[len(said) :]
        if not parted.strip():
            return []
        space = "" if parted[-1].isspace() else " "
        lines = self.source.split("\n")
        return [
            space + after
            for line, after in itertools.pairwise(lines)
            if _ends_with(said.lower(), line.strip().lower())
        ]

    def _ends_of(self, passage: str) -> list[int]:
        """Where the places end at which the passage stands in the source, in any case."""
        source, wanted = self.source.lower(), passage.lower()
        if len(source) != len(self.source) or len(wanted) != len(passage):
            source, wanted = self.source, passage  # a letter that is longer in lower case
        ends = []
        found = source.find(wanted)
        while found >= 0:
            if not (found and source[found - 1].isalnum()):
                ends.append(found + len(wanted))
            found = source.find(wanted, found + 1)
        return ends


def _ends_with(text: str, words: str) -> bool:
    """Whether whole words are the end of a text."""
    before = text.removesuffix(words)
    return bool(words) and text != before and not before[-1:].isalnum()


def _word_starts(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"(?<!\S)\S", text)]
