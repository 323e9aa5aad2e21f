"""Tokens of a text that is made piece by piece: each piece has those it would have in its midst.

Special tokens are found in the template's text as tokenizers find them. Where a vocabulary has no
token that goes on behind a blank, as those of sentencepiece, every word is encoded only once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = ["Run", "Section", "TextTokens"]

_BLANK = "\u2581"
"""What stands for a blank in the vocabularies of sentencepiece."""

_MOST_WORDS = 200_000
_LONGEST_WORD = 32


class Section(NamedTuple):
    """Text without special tokens, or a special token and its number.

    `text` may begin with a blank that the tokenizer adds: it is longer than `size` then.
    """

    text: str
    size: int
    token: int | None = None


class Run(NamedTuple):
    """Tokens of the next `size` characters; where each stops, if an edge lies between them."""

    size: int
    ids: Sequence[int]
    stops: Sequence[int] = ()


@dataclass(frozen=True)
class _Blank:
    """Where a tokenizer adds a blank before text, and what it may begin with to get none."""

    where: Literal["never", "first", "always"] = "never"
    unless: tuple[str, ...] = ()


class TextTokens:
    """Makes tokens by the rules of one tokenizer; its special tokens are found apart."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self._special = {token.content: number for number, token in added.items()}
        self._endings = tuple(self._special)
        self._spotted = _spotting(added.values())
        self._plain, self._blank = _plain(tokenizer.backend_tokenizer)
        self._encoded = lru_cache(maxsize=1024)(self._encode)
        self._placed = lru_cache(maxsize=16384)(self._place)
        self._words = _Words(self._plain) if _words_stand_alone(self._plain) else None

    def __reduce__(self) -> tuple[type[TextTokens], tuple[PreTrainedTokenizerFast]]:
        """Another process gets the tokenizer, and makes its own of what is kept."""
        return type(self), (self._tokenizer,)

    def begins_anew(self, before: str) -> bool:
        """Whether the tokenizer adds a blank to text that stands behind `before`."""
        if not before:
            return self._blank.where != "never"
        return self._blank.where == "always" and before.endswith(self._endings)

    def sections(self, piece: str, *, anew: bool) -> Iterator[Section]:
        """The texts and special tokens of a piece, which `begins_anew` or goes on."""
        at = 0
        for found in self._spotted.finditer(piece) if self._spotted else ():
            if at < found.start():
                yield self._section(piece[at : found.start()], anew=anew)
            at, spelled = found.end(), found.group()
            token = self._special.get(spelled, self._special.get(spelled.strip()))
            yield Section(spelled, len(spelled), token)
            anew = self._blank.where == "always"
        if at < len(piece):
            yield self._section(piece[at:], anew=anew)

    def _section(self, text: str, *, anew: bool) -> Section:
        adds = anew and not text.startswith(self._blank.unless)
        return Section(f" {text}" if adds else text, len(text))

    def ids(self, section: Section) -> Sequence[int]:
        """The tokens of a section."""
        return self._ids(section.text) if section.token is None else (section.token,)

    def runs(self, section: Section, edges: Iterable[int]) -> Iterator[Run]:
        """The tokens of a section, between `edges` and around them."""
        inside = [edge for edge in edges if 0 < edge < section.size]
        if not inside or section.token is not None:
            yield Run(section.size, self.ids(section))
            return
        text, added = section.text, len(section.text) - section.size
        for start, stop, crossed in self._stretches(text, [edge + added for edge in inside]):
            begun = max(start, added)
            if crossed:
                ids, stops = self._placed(text[start:stop])
                yield Run(stop - begun, ids, [start + end - begun for end in stops])
            else:
                yield Run(stop - begun, self._ids(text[start:stop]))

    def _stretches(self, text: str, edges: Iterable[int]) -> Iterator[tuple[int, int, bool]]:
        """Where a text can be taken apart; true where an edge may lie within a token."""
        if self._words is None or not _has_words(text):
            yield 0, len(text), True
            return
        at = 0
        for edge in edges:
            if edge <= at:
                continue
            start = edge if text[edge] == " " else max(text.rfind(" ", 0, edge), at)
            if at < start:
                yield at, start, False
            stop = text.find(" ", edge)
            at = len(text) if stop < 0 else stop
            if start < at:
                yield start, at, True
        if at < len(text):
            yield at, len(text), False

    def _ids(self, text: str) -> Sequence[int]:
        if self._words is None or not _has_words(text):
            return self._encoded(text)
        first, *others = text.split(" ")
        ids = list(self._encoded(first)) if first else []
        ids.extend(chain.from_iterable(map(self._words.__getitem__, others)))
        return ids

    def _encode(self, text: str) -> list[int]:
        return self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _place(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens of a text, and where each stops."""
        encoding = self._plain.encode(text, add_special_tokens=False)
        return encoding.ids, [stop for _, stop in encoding.offsets]


class _Words(dict[str, Sequence[int]]):
    """The tokens of words with a blank before them, as far as they have been met."""

    def __init__(self, plain: Tokenizer) -> None:
        super().__init__()
        self._plain = plain

    def __missing__(self, word: str) -> Sequence[int]:
        ids = tuple(self._plain.encode(f" {word}", add_special_tokens=False).ids)
        if len(word) <= _LONGEST_WORD:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = ids
        return ids


def _has_words(text: str) -> bool:
    """Whether every blank in a text begins a word."""
    return "  " not in text and _BLANK not in text


def _spotting(added: Iterable[AddedToken]) -> re.Pattern[str] | None:
    """A pattern that finds the special tokens of a tokenizer, the longest first."""
    forms = []
    for token in sorted(added, key=lambda token: -len(token.content)):
        form = re.escape(token.content)
        if token.single_word:
            form = rf"(?<!\w){form}(?!\w)"
        forms.append(r"\s*" * token.lstrip + form + r"\s*" * token.rstrip)
    return re.compile("|".join(forms)) if forms else None


def _plain(backend: Tokenizer) -> tuple[Tokenizer, _Blank]:
    """A tokenizer without special tokens that adds no blank, and the blank that `backend` adds."""
    from tokenizers import Tokenizer, models

    state = json.loads(Tokenizer(models.BPE()).to_str())
    blank = _Blank()
    for name in ("normalizer", "pre_tokenizer"):
        part = getattr(backend, name)
        if part is not None:
            state[name], found = _without_blank(json.loads(part.__getstate__()))
            blank = found or blank
    plain = Tokenizer.from_str(json.dumps(state))
    plain.model = backend.model
    return plain, blank


def _without_blank(state: dict[str, Any]) -> tuple[dict[str, Any] | None, _Blank | None]:
    """A part of a tokenizer as it is when it adds no blank, and the blank that it added."""
    kind = state["type"]
    if kind == "Prepend":
        return None, _Blank("always")
    if kind == "Metaspace" and state.get("prepend_scheme", "always") != "never":
        blank = _Blank(state.get("prepend_scheme", "always"), (" ", state["replacement"]))
        return {**state, "prepend_scheme": "never"}, blank
    if kind == "ByteLevel" and state.get("add_prefix_space"):
        return {**state, "add_prefix_space": False}, _Blank("always", (" ",))
    if kind != "Sequence":
        return state, None
    key = "normalizers" if "normalizers" in state else "pretokenizers"
    parts = [_without_blank(part) for part in state[key]]
    blanks = [blank for _, blank in parts if blank]
    return {**state, key: [part for part, _ in parts if part]}, blanks[0] if blanks else None


def _words_stand_alone(plain: Tokenizer) -> bool:
    """Whether a text's tokens are those of its words, each with the blank before it.

    So it is for byte-pair merges over the whole text, when none of them crosses into a blank.
    """
    from tokenizers import models

    model = plain.model
    if not isinstance(model, models.BPE) or model.dropout or model.ignore_merges:
        return False
    rules = [json.loads(r.__getstate__()) for r in (plain.normalizer, plain.pre_tokenizer) if r]
    spelled = [_blanks_alone(rule) for rule in rules]
    if not spelled or not all(spelled):
        return False
    vocabulary = plain.get_vocab()
    return _BLANK in vocabulary and not any(_BLANK in token.lstrip(_BLANK) for token in vocabulary)


def _blanks_alone(rule: dict[str, Any]) -> bool:
    """Whether a rule of a tokenizer does nothing but spell blanks as sentencepiece does."""
    if rule["type"] == "Metaspace":
        return bool(rule["replacement"] == _BLANK)
    if rule["type"] == "Replace":
        return (rule["pattern"], rule["content"]) == ({"String": " "}, _BLANK)
    return "normalizers" in rule and all(map(_blanks_alone, rule["normalizers"]))
