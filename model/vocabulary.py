"""Which tokens of a vocabulary a text may begin with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Vocabulary"]


class Vocabulary:
    """The texts of a tokenizer's tokens, each on its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        pieces = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
        self._tokens: dict[str, list[int]] = defaultdict(list)
        for token, piece in enumerate(pieces):
            if piece.strip():
                self._tokens[piece].append(token)
        self._longest = max(map(len, self._tokens))

    def beginning(self, texts: Iterable[str]) -> list[int]:
        """The tokens, blank ones left out, with which one of `texts` begins."""
        begun = {text[:end] for text in texts for end in range(1, self._longest + 1)}
        return sorted(token for piece in begun for token in self._tokens.get(piece, ()))
