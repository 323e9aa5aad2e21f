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


@dataclass(frozen=True)
class Copying:
    """The texts that a reply may copy from, and how many nats a word that follows there gets."""

    source: str
    weight: float = 4.0

    def following(self, begun: str) -> list[str]:
        """What follows in the source, to the line's end, on the longest end of `begun` in it."""
        begun = begun.lstrip()
        for start in _word_starts(begun):
            passage = begun[start:]
            if start and len(passage.strip()) < _SHORTEST:
                break
            pattern = rf"(?<!\w){re.escape(passage)}"
            ends = [match.end() for match in re.finditer(pattern, self.source, re.IGNORECASE)]
            if ends:
                return [self.source[end:].split("\n", 1)[0] for end in ends]
        return []

    def favoured(self, begun: str, pieces: Sequence[str]) -> list[bool]:
        """For each piece that might come next, whether it is what follows in the source."""
        rests = [rest for rest in self.following(begun) if rest.strip()]
        return [
            bool(piece.strip()) and any(rest.startswith(piece) for rest in rests)
            for piece in pieces
        ]


def _word_starts(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"(?<!\S)\S", text)]
