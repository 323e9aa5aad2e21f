"""Reading COCO's annotation files: images, captions, and instances with their boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from ...skills.errors import BadInput
from .coco_files import Captions, Instances, Place
from .files import ImageFolders, checked, read_json
from .suite import Case

__all__ = ["CaptionCase", "DetectionCase", "Instance", "read_captions", "read_instances"]


class CaptionCase(Case):
    """An image and what people wrote about it."""

    references: tuple[str, ...]


class Instance(BaseModel):
    """A thing in an image; `bbox` is left, top, width, height in pixels."""

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int = 0


class DetectionCase(Case):
    """An image with its size and the things in it; `categories` are all that are asked for."""

    width: int
    height: int
    instances: tuple[Instance, ...]
    categories: dict[int, str]


class _Annotation(Instance, Place):
    """A thing, and the image in which it is."""


def read_captions(path: Path, images: Sequence[Path]) -> Iterator[CaptionCase]:
    """The images of a `captions_*.json` that have captions."""
    data = checked(read_json(path), Captions, path.name)
    folders = _folders(path, images)
    said: dict[int, list[str]] = defaultdict(list)
    for annotation in data.annotations:
        said[annotation.image_id].append(annotation.caption)
    for image in data.images:
        if image.id in said:
            file = folders.find(image.file_name)
            yield CaptionCase(id=str(image.id), images=(file,), references=tuple(said[image.id]))


def read_instances(path: Path, images: Sequence[Path]) -> Iterator[DetectionCase]:
    """The images of an `instances_*.json`. Raises `BadInput` for one without a size."""
    data = checked(read_json(path), Instances[_Annotation], path.name)
    folders = _folders(path, images)
    categories = {category.id: category.name for category in data.categories}
    there: dict[int, list[_Annotation]] = defaultdict(list)
    for thing in data.annotations:
        there[thing.image_id].append(thing)
    for image in data.images:
        if not (image.width and image.height):
            raise BadInput(f"{path.name}: image {image.id} has no width and height")
        yield DetectionCase(
            id=str(image.id),
            images=(folders.find(image.file_name),),
            width=image.width,
            height=image.height,
            instances=tuple(Instance(**thing.model_dump()) for thing in there[image.id]),
            categories=categories,
        )


def _folders(path: Path, images: Sequence[Path]) -> ImageFolders:
    return ImageFolders([*images, path.parent, path.parent / "images"])
