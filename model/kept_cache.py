"""A model whose keys and values are kept from one reply to the next.

What a conversation and the tokens before it have in common is not computed again: a second
step of a turn pays for its new tokens only, and an image is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch

from .images import EncodedImage
from .rendering import Rendered

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["CachedModel"]

Key = int | tuple[str, int]
"""What a cached position stands for: a text token, or a token of an image by its content."""


class CachedModel:
    """Feeds a model token by token and remembers what it has been fed."""

    def __init__(self, model: PreTrainedModel, *, keep: bool = True) -> None:
        self._model = model
        self._keep = keep
        self._keys: list[Key] = []
        self._cache: Cache | None = None
        self._shift = 0

    def clear(self) -> None:
        """Forget everything."""
        self._keys, self._cache, self._shift = [], None, 0

    @torch.inference_mode()
    def begin(
        self, prompt: Rendered, images: Mapping[str, EncodedImage]
    ) -> tuple[torch.Tensor, int]:
        """Read a prompt; the logits (vocabulary) after its last token, and how much was known."""
        keys = _keys(prompt, images)
        known = self._reuse(keys, prompt)
        positions = self._positions(prompt, images)
        logits = torch.empty(0)
        for start, stop, image in _chunks(prompt, known, len(keys)):
            encoded = images[image] if image else None
            logits = self._forward(prompt.ids[start:stop], positions[..., start:stop], encoded)
            self._keys.extend(keys[start:stop])
        return logits, known

    @torch.inference_mode()
    def go_on(self, ids: Sequence[int]) -> torch.Tensor:
        """Read more text tokens; the logits (vocabulary) after the last of them."""
        first = len(self._keys) + self._shift
        positions = torch.arange(first, first + len(ids))[None]
        if self._is_mrope:
            positions = positions.expand(3, 1, -1)
        logits = self._forward(ids, positions, None)
        self._keys.extend(ids)
        return logits

    @property
    def _is_mrope(self) -> bool:
        """Whether positions have three axes (Qwen-VL and its kin)."""
        return hasattr(self._model.model, "get_rope_index")

    def _reuse(self, keys: list[Key], prompt: Rendered) -> int:
        """Cut the cache back to what it shares with `keys`; how many tokens that is."""
        from transformers import DynamicCache

        pairs = zip(self._keys, keys[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        for place in prompt.images:
            # An image is computed whole or not at all.
            if place.start < shared < place.stop:
                shared = place.start
        if self._cache is None or not self._keep or not self._crop(shared):
            self._cache = DynamicCache(config=self._model.config)
            shared = 0
        self._keys = keys[:shared]
        return shared

    def _crop(self, length: int) -> bool:
        """Cut the cache to `length` tokens; false where a kind of layer cannot be cut."""
        assert self._cache is not None
        if length == len(self._keys):
            return True
        layers = getattr(self._cache, "layers", [])
        if length == 0 or any(type(layer).__name__ != "DynamicLayer" for layer in layers):
            return False
        self._cache.crop(length - len(self._keys))
        return True

    def _positions(self, prompt: Rendered, images: Mapping[str, EncodedImage]) -> torch.Tensor:
        """Position ids of the whole prompt, (1, tokens), or (3, 1, tokens) for Qwen-VL's kin."""
        count = len(prompt.ids)
        plain = torch.arange(count)[None]
        self._shift = 0
        if not self._is_mrope:
            return plain
        if not prompt.images:
            return plain.expand(3, 1, -1)
        types = torch.zeros(1, count, dtype=torch.int)
        for place in prompt.images:
            found = images[place.handle].token_types or [1] * (place.stop - place.start)
            types[0, place.start : place.stop] = torch.tensor(found)
        grids = torch.cat(
            [images[place.handle].features["image_grid_thw"] for place in prompt.images]
        )
        positions, _ = self._model.model.get_rope_index(
            torch.tensor([prompt.ids]), mm_token_type_ids=types, image_grid_thw=grids
        )
        self._shift = int(positions.max()) + 1 - count
        return torch.as_tensor(positions)

    def _forward(
        self, ids: Sequence[int], positions: torch.Tensor, image: EncodedImage | None
    ) -> torch.Tensor:
        device = self._model.device
        extra: dict[str, Any] = {}
        if image is not None:
            extra = {name: tensor.to(device) for name, tensor in image.features.items()}
            if "pixel_values" in extra and extra["pixel_values"].is_floating_point():
                extra["pixel_values"] = extra["pixel_values"].to(self._model.dtype)
        output = self._model(
            input_ids=torch.tensor([list(ids)], device=device),
            position_ids=positions.to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
        )
        return torch.as_tensor(output.logits[0, -1])


def _keys(prompt: Rendered, images: Mapping[str, EncodedImage]) -> list[Key]:
    keys: list[Key] = list(prompt.ids)
    for place in prompt.images:
        sha256 = images[place.handle].sha256
        keys[place.start : place.stop] = [
            (sha256, offset) for offset in range(place.stop - place.start)
        ]
    return keys


def _chunks(prompt: Rendered, start: int, stop: int) -> list[tuple[int, int, str | None]]:
    """Ranges of tokens to feed at once, each with one image at most."""
    chunks: list[tuple[int, int, str | None]] = []
    upcoming = [place for place in prompt.images if place.start >= start]
    for index, place in enumerate(upcoming):
        last = index == len(upcoming) - 1
        until = stop if last else upcoming[index + 1].start
        chunks.append((start, until, place.handle))
        start = until
    return chunks or [(start, stop, None)]
