"""What the answers to old clients share: names with the skills behind them, checked requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ...skills.backends import Detection
from ...skills.errors import BadInput
from ...skills.geometry import Mask
from ...skills.skill import describe_validation
from .errand import Errand, Picture

__all__ = ["Answer", "Api", "find", "read", "union"]

Request = TypeVar("Request", bound=BaseModel)
Answer = dict[str, Any]

_DETECTIONS = TypeAdapter(tuple[Detection, ...])


@dataclass(frozen=True)
class Api:
    """One name that old clients know: the skills that it takes, and how it is answered."""

    skills: tuple[str, ...]
    answer: Callable[[Errand, Mapping[str, Any]], Awaitable[Answer]]


def read(form: type[Request], request: Mapping[str, Any]) -> Request:
    """The fields of a request. Raises `BadInput` when one is missing or of another kind."""
    try:
        return form.model_validate(request)
    except ValidationError as error:
        raise BadInput(f"the request cannot be read: {describe_validation(error)}") from error


async def find(
    errand: Errand, picture: Picture, labels: list[str], threshold: float | None = None
) -> tuple[Detection, ...]:
    """What `detect` finds, in the skill's order."""
    options = {} if threshold is None else {"threshold": threshold}
    result = await errand.call("detect", image=picture.handle, labels=labels, **options)
    return _DETECTIONS.validate_python(result.data["objects"])


def union(masks: Iterable[Mask], picture: Picture) -> Mask:
    """All masks of a picture as one; of none, an empty one."""
    import numpy as np

    whole = np.zeros((picture.image.height, picture.image.width), bool)
    for mask in masks:
        whole |= mask.array()
    return Mask.from_array(whole)
