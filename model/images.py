"""Images as a model takes them: placeholder tokens and pixel tensors, made once an image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..skills.images import ImageRef, ImageStore

if TYPE_CHECKING:
    from transformers import ProcessorMixin

__all__ = ["EncodedImage", "ImageEncoder"]


@dataclass(frozen=True)
class EncodedImage:
    """The placeholder tokens of one image and what the model computes them from.

    `features` are the processor's tensors for this image alone (`pixel_values`, and for some
    families grids or sizes); `token_types` has one entry a token where a family wants them.
    """

    sha256: str
    ids: list[int]
    features: dict[str, torch.Tensor]
    token_types: list[int] | None


class ImageEncoder:
    """Runs the processor on single images and keeps the last `size` of them by content."""

    def __init__(self, processor: ProcessorMixin, image_token: str, *, size: int = 16) -> None:
        self._processor = processor
        self._image_token = image_token
        self._size = size
        self._known: OrderedDict[str, EncodedImage] = OrderedDict()

    def encode(self, ref: ImageRef, store: ImageStore) -> EncodedImage:
        """Placeholder tokens and tensors of one image."""
        if ref.sha256 not in self._known:
            self._known[ref.sha256] = self._encode(ref, store)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(ref.sha256)
        return self._known[ref.sha256]

    def _encode(self, ref: ImageRef, store: ImageStore) -> EncodedImage:
        inputs = self._processor(
            text=[self._image_token],
            images=[store.image(ref)],
            return_tensors="pt",
            add_special_tokens=False,
        )
        tensors = dict(inputs)
        ids = tensors.pop("input_ids")[0].tolist()
        tensors.pop("attention_mask", None)
        types = tensors.pop("mm_token_type_ids", tensors.pop("token_type_ids", None))
        token_types = None if types is None else types[0].tolist()
        return EncodedImage(ref.sha256, ids, tensors, token_types)
