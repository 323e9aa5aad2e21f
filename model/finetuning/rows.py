"""Records as token sequences that a model learns from: what is learned, and what it sees.

The mask is the renderer's own. Where a record is longer than a row may be, it ends with the last
reply that fits, so that no call, answer or image is ever cut in the middle.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict
from torch.nn import functional

from ...skills.errors import BadConfiguration, BadInput
from ...skills.images import ImageRef, ImageStore, read_file
from ..images import EncodedImage, ImageEncoder
from ..local import shortlist_of
from ..record import Record
from ..rendering import ChatRenderer, ImagePlace, Part, Rendered

if TYPE_CHECKING:
    from transformers import ProcessorMixin

__all__ = ["Learn", "Measure", "Row", "RowMaker", "Unusable", "UnusableRow", "join_features"]

_MOST_SIZES = 1024


class Unusable(StrEnum):
    """Why nothing can be learned from a record."""

    NOT_A_RECORD = "not a record"
    """Its line cannot be read."""
    IMAGE_LOST = "image lost"
    """An image that the LMM is to see is missing or damaged, or the processor does not take it."""
    NOT_RENDERED = "not rendered"
    """The chat template does not write it, or shows another number of images than it has."""
    NO_END_TOKEN = "no end token"
    """A reply does not end with a control token, so the LMM would not learn to stop."""
    CALL_CUT_OFF = "call cut off"
    """Its first reply is a call that breaks off where the row ends."""
    TOO_LONG = "too long"
    """Its first reply ends behind the row."""
    NOTHING_LEARNED = "nothing learned"
    """It has no reply, an empty one, or none with a part that the recipe learns."""


class UnusableRow(BadInput):
    """A record cannot be learned from; `reason` says of what kind the problem is."""

    def __init__(self, reason: Unusable, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Learn(BaseModel):
    """Which parts of replies are learned; the others are read only, as requests and results are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: bool = True
    answers: bool = True
    stops: bool = True
    """The end of every reply."""
    thoughts: bool = True

    @property
    def parts(self) -> frozenset[Part | None]:
        """The parts that are learned."""
        chosen: dict[Part, bool] = {
            "call": self.calls,
            "answer": self.answers,
            "stop": self.stops,
            "thought": self.thoughts,
        }
        return frozenset(part for part, learned in chosen.items() if learned)


@dataclass(frozen=True)
class Row:
    """A record as a model learns from it; all lists have one entry a token.

    `token_types` are there where the processor gives them. `features` is what it made of the
    images, one after the other along the first axis: `pixel_values`, `image_grid_thw`, ...
    """

    id: str
    ids: list[int]
    learned: list[bool]
    token_types: list[int] | None
    features: dict[str, torch.Tensor]
    images: list[ImagePlace]

    def __len__(self) -> int:
        return len(self.ids)


class Measure(NamedTuple):
    """The size of a row: its tokens, those learned, and whether replies were cut off its end."""

    length: int
    learned: int
    is_cut: bool


class _Masked(NamedTuple):
    """A conversation as far as it fits, and whether each token is learned."""

    rendered: Rendered
    learned: list[bool]
    is_cut: bool


class _Shown(NamedTuple):
    """The images that the model is to see, by handle."""

    refs: dict[str, ImageRef]
    store: ImageStore


class RowMaker:
    """Makes rows of at most `longest` tokens from records, with one model's processor.

    A row ends with the last reply that fits. For `tool_images` see `ChatRenderer`. Raises
    `BadConfiguration` when the processor has no chat template that writes calls.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        *,
        longest: int,
        learn: Learn | None = None,
        tool_images: bool | None = None,
    ) -> None:
        self._processor = processor
        self._renderer = ChatRenderer(processor, shortlist_of(processor), tool_images=tool_images)
        # Those of a page in full resolution take tens of megabytes, and are seldom needed again.
        self._encoder = ImageEncoder(processor, self._renderer.image_token, size=2)
        self._longest = longest
        self._learn = learn or Learn()
        self._control = frozenset(self._renderer.tokenizer.added_tokens_decoder)
        self._sizes: dict[tuple[int, int], array[int]] = {}

    def __reduce__(self) -> tuple[Callable[..., RowMaker], tuple[ProcessorMixin]]:
        """Made anew in another process: what it remembers is not worth the way."""
        images = self._renderer.tool_images
        made = partial(RowMaker, longest=self._longest, learn=self._learn, tool_images=images)
        return made, (self._processor,)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides on the tokens and masks of rows beside the records."""
        tokenizer = self._renderer.tokenizer
        parts = [
            version("transformers"),
            type(self._processor).__name__,
            self._processor.to_json_string(),
            self._processor.chat_template or tokenizer.chat_template,
            tokenizer.backend_tokenizer.to_str(),
            tokenizer.special_tokens_map,
            self._longest,
            self._learn.model_dump(),
            self._renderer.tool_images,
        ]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()

    def row(self, record: Record, folder: Path) -> Row:
        """The row of a record whose images lie in `folder`. Raises `UnusableRow`."""
        shown = self._open_images(record, folder)
        # An image is encoded once, however small the encoder's memory is.
        encoded = {handle: self._encode(handle, shown) for handle in shown.refs}
        masked = self._masked(record, shown, lambda handle: encoded[handle].ids)
        rendered = masked.rendered
        images = [(place, encoded[place.handle]) for place in rendered.images]
        return Row(
            id=record.id,
            ids=rendered.ids,
            learned=masked.learned,
            token_types=_token_types(len(rendered.ids), images),
            features=join_features([image.features for _, image in images]),
            images=rendered.images,
        )

    def measure(self, record: Record, folder: Path) -> Measure:
        """The size of a record's row. Raises `UnusableRow` where `row` does.

        Images are opened, but the processor sees one of each size only.
        """
        shown = self._open_images(record, folder)
        masked = self._masked(record, shown, lambda handle: self._tokens(handle, shown))
        return Measure(len(masked.learned), sum(masked.learned), masked.is_cut)

    def _open_images(self, record: Record, folder: Path) -> _Shown:
        """The images that the model is to see, read, checked and hashed. Raises `UnusableRow`."""
        shown = _Shown({}, ImageStore())
        for handle in self._renderer.shown(record.messages, record.images):
            path = folder / record.images[handle]
            try:
                shown.refs[handle] = shown.store.add(read_file(path), name=str(path))
            except (BadInput, OSError) as error:  # a name may be too long to look for
                raise UnusableRow(Unusable.IMAGE_LOST, f"{handle}: {error}") from error
        return shown

    def _masked(
        self, record: Record, shown: _Shown, tokens: Callable[[str], Sequence[int]]
    ) -> _Masked:
        try:
            whole = self._renderer.training(record.conversation(shown.refs), tokens)
        except (BadConfiguration, TemplateError) as error:
            raise UnusableRow(Unusable.NOT_RENDERED, str(error)) from error
        replies = _replies(whole.parts)
        self._check(whole, replies)
        stop = self._last_stop(whole, replies)
        fitting = Rendered(
            whole.ids[:stop],
            whole.parts[:stop],
            [place for place in whole.images if place.stop <= stop],
        )
        wanted = self._learn.parts
        if not wanted.intersection(fitting.parts) - {"stop"}:
            raise UnusableRow(
                Unusable.NOTHING_LEARNED, "no reply has a part that the recipe learns"
            )
        learned = [part in wanted for part in fitting.parts]
        return _Masked(fitting, learned, is_cut=stop < replies[-1][1])

    def _check(self, whole: Rendered, replies: Sequence[tuple[int, int]]) -> None:
        """Raises `UnusableRow` when a reply is no example of how to reply."""
        if not replies:
            raise UnusableRow(Unusable.NOTHING_LEARNED, "it has no reply")
        for number, (start, stop) in enumerate(replies, 1):
            parts = whole.parts[start:stop]
            ending = [
                i for i, part in zip(whole.ids[start:stop], parts, strict=True) if part == "stop"
            ]
            if not self._control.intersection(ending) or parts[-1] != "stop":
                raise UnusableRow(
                    Unusable.NO_END_TOKEN, f"reply {number} does not end with a control token"
                )
            if len(ending) == len(parts):
                raise UnusableRow(Unusable.NOTHING_LEARNED, f"reply {number} is empty")

    def _last_stop(self, whole: Rendered, replies: Sequence[tuple[int, int]]) -> int:
        """Where the last reply ends that fits. Raises `UnusableRow` when none does."""
        fitting = [stop for _, stop in replies if stop <= self._longest]
        if fitting:
            return fitting[-1]
        start, stop = replies[0]
        begun = "call" in whole.parts[start : self._longest]
        raise UnusableRow(
            Unusable.CALL_CUT_OFF if begun else Unusable.TOO_LONG,
            f"its first reply ends at token {stop:,}, and a row has {self._longest:,} at most",
        )

    def _encode(self, handle: str, shown: _Shown) -> EncodedImage:
        ref = shown.refs[handle]
        try:
            return self._encoder.encode(ref, shown.store)
        except ValueError as error:
            raise UnusableRow(
                Unusable.IMAGE_LOST,
                f"{handle}: the processor does not take {ref.width} x {ref.height} pixels: {error}",
            ) from error

    def _tokens(self, handle: str, shown: _Shown) -> Sequence[int]:
        """The placeholder tokens of an image, which depend on nothing but its size."""
        ref = shown.refs[handle]
        size = ref.width, ref.height
        if size not in self._sizes:
            if len(self._sizes) >= _MOST_SIZES:
                self._sizes.clear()
            self._sizes[size] = array("I", self._encode(handle, shown).ids)
        return self._sizes[size]


def join_features(features: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What the processor made of several images, one after the other along the first axis.

    Where images differ on another axis (their tiles), the smaller ones are filled up with zeros,
    which their models take for no image.
    """
    known = list(features)
    names = dict.fromkeys(chain.from_iterable(known))
    return {name: _join([one[name] for one in known if name in one]) for name in names}


def _join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    sizes = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    filled = []
    for tensor in tensors:
        missing = [size - own for size, own in zip(sizes, tensor.shape[1:], strict=True)]
        # `pad` counts axes from the last one.
        widths = [width for gap in reversed(missing) for width in (0, gap)]
        filled.append(functional.pad(tensor, widths) if any(widths) else tensor)
    return torch.cat(filled)


def _replies(parts: Sequence[Part | None]) -> list[tuple[int, int]]:
    """Where replies stand: the stretches of tokens that are a part of one."""
    flags = bytes([part is not None for part in parts])
    return [found.span() for found in re.finditer(rb"\x01+", flags)]


def _token_types(
    length: int, images: Sequence[tuple[ImagePlace, EncodedImage]]
) -> list[int] | None:
    """The token types of a whole row: zero outside of images."""
    if not any(image.token_types for _, image in images):
        return None
    types = [0] * length
    for place, image in images:
        types[place.start : place.stop] = image.token_types or [1] * len(image.ids)
    return types
