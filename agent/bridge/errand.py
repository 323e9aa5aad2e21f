"""The skill calls that one request of an old client takes, and what travels with them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from ...skills.calls import SkillResult, SkillUse
from ...skills.errors import BadSkillUse, SkillFailed, UnknownSkill
from ...skills.geometry import Mask
from ...skills.images import ImageRef, ImageStore
from ...skills.peer_wire import picture_data
from ..call_scope import CallScope
from ..dispatcher import Dispatcher

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Errand", "Picture"]

_MODELS_FAULT = {error.__name__: error for error in (BadSkillUse, UnknownSkill)}


class Picture(NamedTuple):
    """An image that came with the request."""

    handle: str
    image: Image

    @property
    def size(self) -> list[int]:
        """Height and width in pixels, as old workers tell them."""
        return [self.image.height, self.image.width]


class Errand:
    """Handles, calls and what they brought, all within `seconds`."""

    def __init__(self, dispatcher: Dispatcher, seconds: float) -> None:
        self._dispatcher = dispatcher
        self._deadline = time.monotonic() + seconds
        self._store = ImageStore()
        self._images: dict[str, ImageRef] = {}
        self._masks: dict[str, Mask] = {}

    async def take(self, text: str, *, name: str = "image") -> Picture:
        """Take in a picture in base64. Raises `BadInput`."""
        data = picture_data(text, name=name)
        ref = await asyncio.to_thread(self._store.add, data, name=name)
        handle = f"img_{len(self._images) + 1}"
        self._images[handle] = ref
        return Picture(handle, self._store.image(ref))

    def take_mask(self, mask: Mask) -> str:
        """Take in a mask; gives its handle."""
        handle = f"mask_{len(self._masks) + 1}"
        self._masks[handle] = mask
        return handle

    async def call(self, name: str, **arguments: object) -> SkillResult:
        """Run one skill. Raises what went wrong, whoever would have been told of it."""
        result = await self._dispatcher.dispatch(
            SkillUse(id="call_1", name=name, arguments=arguments),
            CallScope(
                images=self._images, masks=self._masks, store=self._store, deadline=self._deadline
            ),
        )
        if result.error:
            raise _MODELS_FAULT.get(result.error.kind, SkillFailed)(result.error.message)
        return result

    def images(self, result: SkillResult) -> list[Image]:
        """The images that a call made."""
        return [self._store.image(made.image) for made in result.artifacts if made.image]

    @staticmethod
    def masks(result: SkillResult) -> list[Mask]:
        """The masks that a call made."""
        return [made.mask for made in result.artifacts if made.mask]

    def image(self, result: SkillResult) -> Image:
        """The one image that a call made. Raises `SkillFailed` when it made none."""
        for image in self.images(result):
            return image
        raise SkillFailed(f"{result.name} made no image")
