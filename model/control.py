"""The one guarantee that text from people, images and skills never acts as a control token.

Every piece of data text passes `neutralise` on its way into a prompt, in serving and in
training alike. A control token's spelling gets an invisible WORD JOINER after its first
character, so the tokenizer no longer sees the token; `restore` is the exact inverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["ControlTokens"]

JOINER = "\u2060"


class ControlTokens:
    """The control tokens of one tokenizer, by their spelling."""

    def __init__(self, spellings: Iterable[str]) -> None:
        # Longest first: the alternation must not stop at a token that another one begins with.
        ordered = sorted({s for s in spellings if len(s) > 1}, key=lambda s: (-len(s), s))
        self.spellings = tuple(ordered)
        # Joiners that stand there already are counted, so that restoring is exact.
        forms = "|".join(f"{re.escape(s[0])}{JOINER}*{re.escape(s[1:])}" for s in ordered)
        self._pattern = re.compile(forms) if ordered else None
        # Words begin as some of them do, but hardly any text holds what they end with.
        self._last = {spelling[-1] for spelling in ordered}

    def neutralise(self, text: str) -> str:
        """Spell every control token in `text` so that it is only text."""
        return self._rewrite(text, _joined)

    def restore(self, text: str) -> str:
        """Undo `neutralise`."""
        return self._rewrite(text, _parted)

    def neutralise_all(self, value: Any) -> Any:
        """`neutralise` every string in nested lists and dicts, keys included."""
        return self._rewrite_all(value, _joined)

    def restore_all(self, value: Any) -> Any:
        """`restore` every string in nested lists and dicts, keys included."""
        return self._rewrite_all(value, _parted)

    def _rewrite_all(self, value: Any, change: Callable[[re.Match[str]], str]) -> Any:
        if isinstance(value, str):
            return self._rewrite(value, change)
        if isinstance(value, list):
            return [self._rewrite_all(item, change) for item in value]
        if isinstance(value, dict):
            return {
                self._rewrite(key, change): self._rewrite_all(item, change)
                for key, item in value.items()
            }
        return value

    def _rewrite(self, text: str, change: Callable[[re.Match[str]], str]) -> str:
        if self._pattern is not None:
            for last in self._last:  # most texts hold none of them
                if last in text:
                    return self._pattern.sub(change, text)
        return text


def _joined(match: re.Match[str]) -> str:
    found = match.group()
    return found[0] + JOINER + found[1:]


def _parted(match: re.Match[str]) -> str:
    found = match.group()
    return found[0] + found[2:] if found[1] == JOINER else found
