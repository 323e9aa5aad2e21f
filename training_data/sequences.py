"""Records as the tokens that a model would be trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from heapq import nlargest
from typing import TYPE_CHECKING

from ..model.images import ImageEncoder
from ..model.loading import load_processor
from ..model.record import Record
from ..model.rendering import ChatRenderer, Rendered, shows_shortlist
from ..model.shipped import weights_of
from ..model.shortlist import Likely, Shortlist
from ..skills.calls import SkillSpec
from ..skills.errors import BadConfiguration
from ..skills.images import ImageRef, ImageStore, encode_image

if TYPE_CHECKING:
    from transformers import ProcessorMixin

__all__ = ["Sequences"]

Size = tuple[int, int]

_USUAL = (640, 480)
"""The size that an image is given whose own is not known."""


class Sequences:
    """Renders records with the chat template of a model, whose weights are not loaded.

    `lmm` is a folder, a name on the hub, or `embedded`. How many tokens an image takes depends on
    its size in pixels alone, so none is opened. With `ranked=False` the shortlist that some
    templates show is not worked out but stands there at its longest, which is a hundred times
    faster.
    """

    def __init__(self, lmm: str = "embedded", *, ranked: bool = True) -> None:
        """Raises `BadConfiguration` when there is no such model, or it has no chat template."""
        name = weights_of(lmm)
        try:
            processor = load_processor(name)
        except (OSError, ValueError, ImportError) as error:
            raise BadConfiguration(
                f"the processor of {name!r} cannot be loaded: {error}"
            ) from error
        self.name = lmm
        self.renderer = ChatRenderer(processor, _shortlist(processor, ranked=ranked))
        encoder = ImageEncoder(processor, self.renderer.image_token)
        self._placeholders = lru_cache(256)(partial(_placeholders, encoder))

    def of(self, record: Record, sizes: Mapping[str, Size]) -> Rendered:
        """The training sequence of a record; `sizes` are those of its images, by handle."""
        refs = {handle: _ref(sizes.get(handle, _USUAL)) for handle in record.images}
        return self.renderer.training(
            record.conversation(refs),
            lambda handle: self._placeholders(sizes.get(handle, _USUAL)),
        )


def _shortlist(processor: ProcessorMixin, *, ranked: bool) -> Callable[..., list[Likely]] | None:
    template = processor.chat_template
    if not isinstance(template, str) or not shows_shortlist(template):
        return None
    return Shortlist() if ranked else _longest_names


def _longest_names(request: str, skills: Sequence[SkillSpec], *, image: bool) -> list[Likely]:
    """The shortlist that takes the most room: its three skills are those of the longest names."""
    names = nlargest(3, (spec.name for spec in skills), key=len)
    return [Likely(name, 10) for name in names]


def _ref(size: Size) -> ImageRef:
    """Stands for an image of which only the size is known."""
    return ImageRef(sha256="0" * 64, media_type="image/png", width=size[0], height=size[1])


def _placeholders(encoder: ImageEncoder, size: Size) -> Sequence[int]:
    from PIL import Image

    store = ImageStore()
    blank = store.add(encode_image(Image.new("RGB", size)))
    return encoder.encode(blank, store).ids
