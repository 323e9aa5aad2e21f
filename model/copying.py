"""Keeping to the words that are there, while a reply is decoded.

What a call looks for mostly stands in the request, and what an answer tells in the result; yet a
small model that copies slips into likelier words on the way. So where its text goes on a passage
of the source, the words that follow there are favoured (a soft pointer; See et al. 2017).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Copying"]

_SHORTEST = 3
"""A passage of fewer letters says nothing, unless it is all that is written."""
_LONGEST = 8
"""So many words before the end tell where in the source it is."""


@dataclass(frozen=True)
class Copying:
    """The texts that a reply may copy from, and how many nats a word that follows there gets."""

    source: str
    weight: float = 4.0

    def following(self, begun: str) -> list[str]:
        """What follows in the source, to the line's end, on the longest end of `begun` in it."""
        begun = begun.lstrip()
        for start in _word_starts(begun)[-_LONGEST:]:
            passage = begun[start:]
            if start and len(passage.strip()) < _SHORTEST:
                break
            if ends := self._ends_of(passage):
                return [self.source[end:].split("\n", 1)[0] for end in ends]
        return []

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

    def favoured(self, begun: str, pieces: Sequence[str]) -> list[bool]:
        """For each piece that might come next, whether it is what follows in the source."""
        rests = [rest for rest in self.following(begun) if rest.strip()]
        return [
            bool(piece.strip()) and any(rest.startswith(piece) for rest in rests)
            for piece in pieces
        ]


def _word_starts(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"(?<!\S)\S", text)]
