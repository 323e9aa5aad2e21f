"""Outlining with FastSAM (Zhao et al. 2023) through ultralytics: everything at once, fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..geometry import Mask
from ..images import shrunk
from .proposals import ProposalOutliner
from .ultralytics_models import FromUltralytics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["FastSamOutliner"]


@dataclass(config=ConfigDict(extra="forbid"))
class FastSamOutliner(FromUltralytics, ProposalOutliner):
    """An `Outliner` that outlines all things in an image, then chooses among them by place.

    It works at `longest` pixels of the image's longer side. Things count from a score of
    `threshold`, and as several up to an `overlap` of their boxes (intersection over union). All
    three are the makers' own.
    """

    model: str = "FastSAM-s.pt"
    longest: int = Field(default=1024, ge=32, le=4096, multiple_of=32)
    threshold: float = Field(default=0.4, ge=0, le=1)
    overlap: float = Field(default=0.9, ge=0, le=1)
    _fastsam: Any = field(default=None, init=False, repr=False)
    _device: str = field(default="cpu", init=False, repr=False)
    _size: tuple[int, int] = field(default=(0, 0), init=False, repr=False)
    """Width and height of the image."""
    _masks: Any = field(default=None, init=False, repr=False)
    """Everything in the image, (things, height, width), made smaller with it."""
    _scores: Any = field(default=None, init=False, repr=False)

    def load(self, device: str) -> None:
        """Load the model. Raises `BadConfiguration` when it is not there."""
        self._fastsam, self._device = self._open("FastSAM"), device

    def everything(self, image: Image) -> list[Mask]:
        """All that the model outlines."""
        self._look_at(image)
        return [Mask.from_array(self._enlarged(mask)) for mask in self._masks]

    def _read(self, image: Image) -> None:
        import numpy as np

        small = shrunk(image, self.longest)
        (result,) = self._fastsam.predict(
            small,
            imgsz=self.longest,
            conf=self.threshold,
            iou=self.overlap,
            retina_masks=True,
            device=self._device,
            verbose=False,
        )
        self._size = image.size
        self._scores = result.boxes.conf.cpu().numpy()
        self._masks = np.zeros((0, small.height, small.width), dtype=bool)
        if result.masks is not None:
            self._masks = result.masks.data.cpu().numpy().astype(bool)

    def _propose(self, pixels: Sequence[float]) -> tuple[Any, Any]:
        height, width = self._masks.shape[1:]
        scales = (width / self._size[0], height / self._size[1]) * (len(pixels) // 2)
        place = [int(part * scale) for part, scale in zip(pixels, scales, strict=True)]
        left, top = min(place[0], width - 1), min(place[1], height - 1)
        if len(place) == 2:
            ratings = self._scores * self._masks[:, top, left]
            order = ratings.argsort()
        else:
            right, bottom = max(place[2], left + 1), max(place[3], top + 1)
            ratings = _overlaps(self._masks, left, top, right, bottom)
            order = ratings.argsort()[-1:]
        chosen = order[ratings[order] > 0]
        return [self._enlarged(mask) for mask in self._masks[chosen]], ratings[chosen]

    def _enlarged(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask in the size of the image."""
        import cv2
        import numpy as np

        shown = cv2.resize(mask.astype(np.uint8), self._size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(shown, dtype=bool)


def _overlaps(
    masks: NDArray[np.bool_], left: int, top: int, right: int, bottom: int
) -> NDArray[np.float64]:
    """Intersection over union of each mask, (masks, height, width), with a box in pixels."""
    import numpy as np

    inside = masks[:, top:bottom, left:right].sum(axis=(1, 2))
    union = (bottom - top) * (right - left) + masks.sum(axis=(1, 2)) - inside
    return np.asarray(inside / union, dtype=np.float64)
