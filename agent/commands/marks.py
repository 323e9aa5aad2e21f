"""What a person marked in an image: boxes, points, and an area painted in a picture file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from pydantic import BaseModel, ConfigDict

from ...model.conversation import Conversation
from ...skills.errors import BadInput
from ...skills.geometry import Box, Mask, Point
from ...skills.images import ImageRef, read_image
from ..places import read_box, read_point
from .options import adding

__all__ = ["Marking", "with_marks"]

Place = TypeVar("Place")

_PAINTED = 128
"""A pixel of a sketch counts when it is as light, or as opaque, as this, of 255."""


class Marking(BaseModel):
    """Marks that go with a request, as fractions of its newest image; `sketch` is a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    sketch: Path | None = None

    def add_to(self, asked: Conversation) -> Conversation:
        """The conversation with the marks on its last request. Raises `BadInput`."""
        if not (self.boxes or self.points or self.sketch):
            return asked
        masks = []
        if self.sketch:
            if not asked.images:
                raise BadInput(f"the sketch {self.sketch} marks an image: give one with it")
            masks.append(_read_sketch(self.sketch, list(asked.images.values())[-1]))
        return asked.mark(boxes=self.boxes, points=self.points, masks=masks)


def _read_sketch(path: Path, marked: ImageRef) -> Mask:
    """The area that is painted white on black, or on nothing, stretched to the marked image."""
    import numpy as np
    from PIL import Image

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the sketch {path} cannot be read: {error.strerror}") from error
    _, flat = read_image(data, name=str(path))
    with Image.open(io.BytesIO(data)) as layered:
        opacity = layered.convert("RGBA").getchannel("A")
    paint = flat.convert("L") if opacity.getextrema() == (255, 255) else opacity
    stretched = paint.resize((marked.width, marked.height), Image.Resampling.NEAREST)
    mask = Mask.from_array(np.asarray(stretched) >= _PAINTED)
    if mask.area in (0, 1):
        told = "nothing" if mask.area == 0 else "everything"
        raise BadInput(
            f"in the sketch {path} {told} is painted: paint the area white on black or on nothing"
        )
    return mask


class _Marks(click.ParamType[Place], Generic[Place]):
    """A place, read by one of the functions above."""

    def __init__(self, name: str, read: Callable[[str], Place]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: Any, ctx: Any) -> Place:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            return self._read(value)
        except BadInput as error:
            self.fail(str(error), param, ctx)


with_marks = adding(
    click.option(
        "--box",
        "boxes",
        multiple=True,
        metavar="X0,Y0,X1,Y1",
        type=_Marks("box", read_box),
        help="Mark a box in the image, as fractions of it; may be repeated.",
    ),
    click.option(
        "--point",
        "points",
        multiple=True,
        metavar="X,Y",
        type=_Marks("point", read_point),
        help="Mark a point in the image; may be repeated.",
    ),
    click.option(
        "--sketch",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        metavar="FILE",
        help="Mark the area that is painted white on black in this picture.",
    ),
)
"""Adds the options of which a `Marking` is made."""
