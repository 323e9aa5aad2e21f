"""Reading text with RapidOCR, whose weights come inside its wheel."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadSkillUse
from ..geometry import Corners
from ..images import shrunk
from . import Licence, Packages, TextLine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["LineFinder", "RapidOCRReader"]

_LONGEST = 2000
"""Pixels to which RapidOCR shrinks an image's longer side by itself."""
_THINNEST = 20
"""How many times longer than wide an image may be before RapidOCR shrinks it to nothing."""
_SMALLEST = 368
"""Pixels of a canvas on either side. RapidOCR enlarges what is smaller until the shorter side has
736: more than twice that wide, letters come apart, and a strip takes ten times as long.
"""
_LOWEST = 8
"""Pixels below which no letter can be told from another."""


@dataclass(config=ConfigDict(extra="forbid"))
class RapidOCRReader:
    """A `TextReader`; `min_score` is below which a line counts as misread and is left out."""

    threads: int = Field(default=2, ge=1)
    min_score: float = Field(default=0.5, ge=0, le=1)
    _engine: Any = field(default=None, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "Apache-2.0, in the package")
    packages: ClassVar[Packages] = Packages("ocr", ("rapidocr", "onnxruntime"))

    def load(self, device: str) -> None:
        """Load the models, on the CPU whatever `device` is, and run them once."""
        self._engine = _engine(self.threads, {"Global.text_score": self.min_score})

    def read(self, image: Image) -> list[TextLine]:
        """Every line of text; boxes are fractions of `image`."""
        import numpy as np

        shown = _readable(image)
        if shown is None:
            return []
        found = self._engine(np.asarray(_padded(shown))[:, :, ::-1])
        if found.boxes is None or found.txts is None:
            return []
        return [
            TextLine(
                text=text.strip(), box=_around(corners, shown.size), score=round(float(score), 3)
            )
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if text.strip()
        ]


@dataclass(config=ConfigDict(extra="forbid"))
class LineFinder:
    """Finds lines of text without reading them."""

    threads: int = Field(default=2, ge=1)
    _engine: Any = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the model that finds text, and run it once."""
        self._engine = _engine(self.threads, {"Global.use_cls": False, "Global.use_rec": False})

    def find(self, image: Image) -> list[tuple[Corners, Image]]:
        """Every line: its box in fractions of `image`, and a picture of it, made level."""
        import numpy as np
        from PIL import Image as Pillow
        from rapidocr.utils.process_img import get_rotate_crop_image

        shown = _readable(image)
        if shown is None:
            return []
        pixels = np.asarray(_padded(shown))
        found = self._engine(pixels[:, :, ::-1])
        if found.boxes is None:
            return []
        lines = ((_around(corners, shown.size), corners) for corners in found.boxes)
        return [
            (box, Pillow.fromarray(get_rotate_crop_image(pixels, corners)))
            for box, corners in lines
            if box.area > 0
        ]


def _engine(threads: int, params: dict[str, Any]) -> Any:
    import numpy as np
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",  # it warns of every image without text
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            **params,
        }
    )
    # The models are read from disk at the first use; better here than in somebody's call.
    engine(np.full((64, 64, 3), 255, dtype=np.uint8))
    return engine


def _readable(image: Image) -> Image | None:
    """The image in a size that RapidOCR takes, or None when no letter fits into it.

    Raises `BadSkillUse` for a strip that is too thin when it is looked at as a whole.
    """
    shown = shrunk(image, _LONGEST)
    if min(shown.size) >= _LOWEST:
        return shown
    if min(image.size) < _LOWEST:
        return None
    raise BadSkillUse(
        f"ocr: a strip of {image.width} x {image.height} pixels cannot be read at once; "
        "give a region that is a part of its length"
    )


def _padded(image: Image) -> Image:
    """The image, on a larger canvas when it is small or a thin strip."""
    from PIL import Image as Pillow

    least = max(max(image.size) // _THINNEST, _SMALLEST)
    if min(image.size) >= least:
        return image
    canvas = Pillow.new("RGB", (max(image.width, least), max(image.height, least)), "white")
    canvas.paste(image)
    return canvas


def _around(corners: NDArray[np.float32], size: tuple[int, int]) -> Corners:
    """The upright box around a text's four corners."""
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    return Corners.from_pixels(left, top, right, bottom, *size)
