"""The parts of COCO's annotation files, as far as anybody here reads them."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

__all__ = ["Captions", "Instances", "Place"]


class _Image(BaseModel):
    id: int
    file_name: str
    width: int = 0
    height: int = 0


class _Caption(BaseModel):
    image_id: int
    caption: str


class _Category(BaseModel):
    id: int
    name: str


class Place(BaseModel):
    """Where something of a category is; `bbox` is left, top, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class Captions(BaseModel):
    """A `captions_*.json`."""

    images: list[_Image]
    annotations: list[_Caption]


Annotation = TypeVar("Annotation", bound=Place)


class Instances(BaseModel, Generic[Annotation]):
    """An `instances_*.json`, with as much of an annotation as is asked for."""

    images: list[_Image]
    annotations: list[Annotation]
    categories: list[_Category]
