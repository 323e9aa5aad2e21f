"""Images in a frame of fixed size, as YOLO is trained to see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..geometry import Corners

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Letterbox"]

_GREY = 114


class Letterbox(NamedTuple):
    """Where an image of `size` lies in a frame, both (width, height) in pixels: in the middle.

    It is made as large as the frame lets it be, with its proportions, on grey.
    """

    size: tuple[int, int]
    frame: tuple[int, int]

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of the image within the frame, at least one pixel each way."""
        scale = min(frame / side for frame, side in zip(self.frame, self.size, strict=True))
        width, height = (max(1, round(side * scale)) for side in self.size)
        return width, height

    @property
    def offset(self) -> tuple[int, int]:
        """Pixels to the left of the image and above it; of an odd number, one less than after."""
        left, top = (
            (frame - shown) // 2 for frame, shown in zip(self.frame, self.shown, strict=True)
        )
        return left, top

    def drawn(self, image: Image) -> NDArray[np.uint8]:
        """The frame with the image: (height, width, 3), red first."""
        import cv2
        import numpy as np

        (width, height), (left, top) = self.shown, self.offset
        page = np.full((self.frame[1], self.frame[0], 3), _GREY, dtype=np.uint8)
        pixels = np.asarray(image)
        page[top : top + height, left : left + width] = (
            pixels if self.shown == self.size else cv2.resize(pixels, self.shown)
        )
        return page

    def fractions(self, x0: float, y0: float, x1: float, y1: float) -> Corners:
        """A box in pixels of the frame, in fractions of the image and cut to it."""
        left, top = self.offset
        return Corners.from_pixels(x0 - left, y0 - top, x1 - left, y1 - top, *self.shown)
