"""The bytes of a vocabulary's tokens: with which of them a text begins, and where it breaks off."""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Vocabulary"]

_LETTER = 4
"""So many bytes a letter has at most in UTF-8, and so many tokens can share one."""


class Vocabulary:
    """What each token of a tokenizer writes; control tokens write nothing."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        from llguidance.hf import from_tokenizer

        spelled = from_tokenizer(tokenizer)
        self._pieces = [
            b"" if spelled.is_special_token(token) else spelled.decode_bytes([token])
            for token in range(len(tokenizer))
        ]
        self._tokens: dict[bytes, list[int]] = defaultdict(list)
        for token, piece in enumerate(self._pieces):
            if piece.strip():
                self._tokens[piece].append(token)
        self._longest = max(map(len, self._tokens))

    def beginning(self, texts: Iterable[bytes]) -> list[int]:
        """The tokens, blank ones left out, with which one of `texts` in UTF-8 begins."""
        begun = {text[:end] for text in texts for end in range(1, self._longest + 1)}
        return sorted(token for piece in begun for token in self._tokens.get(piece, ()))

    def broken_off(self, tokens: Sequence[int]) -> bytes:
        """The first bytes of a letter that the tokens end within, if they do."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(self._pieces[token] for token in tokens[-_LETTER:]))
        return decoder.getstate()[0]
