"""The training sequence of a record, token by token, in stretches that are of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ...model.rendering import Part, Rendered

__all__ = ["Stretch", "Token", "parts_of", "stretches"]

_BROKEN = "\ufffd"
_LONGEST_CHARACTER = 4
"""Bytes that a character has in UTF-8, and so the tokens that one may take."""


@dataclass(frozen=True)
class Token:
    """One token: its place in the sequence, its number, and the text that it adds."""

    place: int
    id: int
    text: str
    special: bool


@dataclass(frozen=True)
class Stretch:
    """Tokens that follow each other: learned as one part of a reply, an image's, or neither."""

    tokens: Sequence[Token]
    part: Part | None = None
    image: str = ""


def stretches(rendered: Rendered, tokenizer: PreTrainedTokenizerFast) -> list[Stretch]:
    """The whole sequence, in order."""
    images = {
        place: shown.handle for shown in rendered.images for place in range(shown.start, shown.stop)
    }
    special = {*tokenizer.added_tokens_decoder}
    tokens = [
        Token(place, id, text, id in special)
        for place, (id, text) in enumerate(
            zip(rendered.ids, _texts(rendered.ids, tokenizer), strict=True)
        )
    ]
    kinds = groupby(
        tokens, lambda token: (rendered.parts[token.place], images.get(token.place, ""))
    )
    return [Stretch(list(group), part, image) for (part, image), group in kinds]


def parts_of(rendered: Rendered) -> dict[str, int]:
    """How many tokens are learned as what; `other` are not learned."""
    counts = Counter(part or "other" for part in rendered.parts)
    return {name: counts[name] for name in ("thought", "call", "answer", "stop", "other")}


def _texts(ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """What each token adds to the text behind the one before it.

    Of a character that several tokens share, the last one has it and the others a dot.
    """

    def decoded(*some: int) -> str:
        return str(
            tokenizer.decode(
                list(some), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    anchor: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    for id in ids:
        pending = (*pending, id)
        before, text = decoded(*anchor), decoded(*anchor, *pending)
        added = text[len(before) :] if text.startswith(before) else decoded(*pending)
        if added.endswith(_BROKEN) and len(pending) < _LONGEST_CHARACTER:
            yield "·"
            continue
        yield added
        anchor, pending = (id,), ()
