"""Texts as a grammar of llguidance has them: literals, and patterns for all but some."""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["LarkTexts"]


class LarkTexts:
    """Writes texts for one tokenizer, whose special tokens have a number and no spelling."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special

    def literal(self, text: str) -> str:
        """Just `text`: its special tokens by number, the rest as a string."""
        parts = []
        while text:
            found = [(text.find(name), -len(name), name) for name in self._special if name in text]
            start, _, name = min(found, default=(len(text), 0, ""))
            if start:
                parts.append(json.dumps(text[:start], ensure_ascii=False))
            if name:
                parts.append(f"<[{self._special[name]}]>")
            text = text[start + len(name) :]
        return " ".join(parts)

    def words(self, *without: str, until: str = "") -> str:
        """The pattern of any text that ends with `until` and has none of `without` in it.

        Special tokens need not be kept out: no text is spelled as they are.
        """
        kept_out = [_quoted(text) for text in without if text and text not in self._special]
        pattern = f"/(?s:.*){_quoted(until)}/" if until else "/(?s:.+)/"
        return f"{pattern} & ~/(?s:.*)({'|'.join(kept_out)})(?s:.*)/" if kept_out else pattern


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)
