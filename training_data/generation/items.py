"""What is known about an image without seeing it: captions, boxes and tags, from two formats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ...skills.errors import BadInput
from ...skills.geometry import Box, Corners
from ...skills.skill import describe_validation
from ..records.found import Unreadable
from ..records.streams import read_values
from ..suites.coco_files import Captions, Instances, Place
from ..suites.files import checked, read_json
from .outcome import Reason, Refused

__all__ = ["Item", "Thing", "count_items", "read_coco", "read_items"]


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


Words = Annotated[str, BeforeValidator(_one_line), Field(min_length=1)]


class Thing(BaseModel):
    """A named thing in an image and its place."""

    model_config = ConfigDict(frozen=True)

    label: Words = Field(validation_alias=AliasChoices("label", "category"))
    box: Box = Field(validation_alias=AliasChoices("box", "bbox"))


class Item(BaseModel):
    """An image by the name of its file, and what is known about it."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: str = ""
    image: Words
    captions: tuple[Words, ...] = ()
    boxes: tuple[Thing, ...] = Field(
        default=(), validation_alias=AliasChoices("boxes", "instances")
    )
    tags: tuple[Words, ...] = ()

    @model_validator(mode="after")
    def _check_known(self) -> Item:
        if not (self.captions or self.boxes or self.tags):
            raise ValueError("there are no captions, boxes or tags to label the image from")
        return self

    @property
    def name(self) -> str:
        """Its id, or the name of its image where it has none."""
        return self.id or self.image


def read_items(path: Path) -> Iterator[Item | Refused]:
    """The items of a file of JSON lines, or of one JSON array; a line that is none is refused.

    Raises `BadInput` when the file cannot be read at all.
    """
    for found in read_values(path):
        place = f"{path.name}:{found.place}"
        if isinstance(found, Unreadable):
            yield Refused(place, "", Reason.BAD_ITEM, f"it is no JSON: {found.problem}")
            continue
        try:
            yield Item.model_validate(found.value)
        except ValidationError as error:
            yield Refused(place, "", Reason.BAD_ITEM, describe_validation(error))


def count_items(path: Path) -> int:
    """How many lines `read_items` gives. Raises `BadInput` as it does."""
    return sum(1 for _ in read_values(path))


def read_coco(captions: Path | None, instances: Path | None) -> list[Item]:
    """The images of COCO's annotation files, joined by their ids, in their order.

    An image that has neither captions nor boxes is passed over, and so are crowds. Both files
    are held whole. Raises `BadInput` naming the file.
    """
    images: dict[int, Any] = {}
    said: dict[int, list[str]] = defaultdict(list)
    there: dict[int, list[Thing]] = defaultdict(list)
    if captions:
        told = checked(read_json(captions), Captions, captions.name)
        images |= {image.id: image for image in told.images}
        for caption in told.annotations:
            if caption.caption.strip():
                said[caption.image_id].append(caption.caption)
    if instances:
        found = checked(read_json(instances), Instances[Place], instances.name)
        images |= {image.id: image for image in found.images}
        for image_id, thing in _things(found, instances.name):
            there[image_id].append(thing)
    return [
        Item(
            id=str(image.id),
            image=image.file_name,
            captions=tuple(said[key]),
            boxes=tuple(there[key]),
        )
        for key, image in images.items()
        if said[key] or there[key]
    ]


def _things(found: Instances[Place], name: str) -> Iterator[tuple[int, Thing]]:
    """The things of COCO, whose boxes are left, top, width and height in pixels."""
    images = {image.id: image for image in found.images}
    categories = {category.id: category.name for category in found.categories}
    for instance in found.annotations:
        image, label = images.get(instance.image_id), categories.get(instance.category_id)
        if image is None or label is None or not (image.width and image.height):
            raise BadInput(
                f"{name}: an annotation names image {instance.image_id} and category "
                f"{instance.category_id}, of which one is not there or has no size"
            )
        left, top, width, height = instance.bbox
        box = Corners.from_pixels(left, top, left + width, top + height, image.width, image.height)
        if not instance.iscrowd and box.area:
            yield image.id, Thing(label=label, box=box)
