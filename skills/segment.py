"""The skill that outlines things to the pixel."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from . import wording
from .backends import BACKENDS, Detector, EverythingOutliner, NamedOutliner, Outliner
from .detect import Labels, distinct, look_for
from .errors import BadSkillUse, SkillFailed
from .geometry import Box, Corners, Mask, Point, Position, distinct_masks
from .images import shrunk
from .progress import reporting_each
from .settings import create_backend
from .skill import ImageArgument, Skill, SkillOutput

__all__ = ["MOST_REGIONS", "Outlines", "Region", "Segment"]

MOST_REGIONS = 20
"""Regions that are outlined in one call: each takes about a third of a second."""

_LONGEST = 1024
"""Pixels of the longer side at which everything is looked for: models see hardly more, and
hundreds of larger masks would not fit into memory."""

_ONE_OF = "segment: give exactly one of boxes, points and labels"

_SAME = 0.9
"""Intersection over union of two masks above which they are one thing."""


class Region(BaseModel):
    """One outlined thing; its mask travels beside the data, `share` is its part of the image."""

    model_config = ConfigDict(frozen=True)

    label: str
    share: float
    mask: Mask = Field(exclude=True)


class Outlines(SkillOutput):
    """The things that were outlined."""

    regions: tuple[Region, ...]
    asked: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    note: str = ""

    def summary(self) -> str:
        """How many things were outlined, and how much of the image each of them takes."""
        regions = [(region.label, region.share) for region in self.regions]
        return wording.segments_text(regions, self.asked, unknown=self.unknown, note=self.note)

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """One mask for each region."""
        yield from ((region.label, region.mask) for region in self.regions)


class Segment(Skill):
    """Outlines things with the backend that the settings name, and finds them with `detect`'s."""

    name = "segment"
    description = (
        "Outline things exactly, to the pixel; returns masks (cut-outs, silhouettes, areas)."
    )

    def setup(self, device: str) -> None:
        """Load the outlining backend; the detector is loaded when a label first needs it."""
        self._device = device
        self._outliner: Outliner = create_backend(self.name)
        self._outliner.load(device)
        self._detector: Detector = create_backend("detect")
        self._detector_is_loaded = False

    def teardown(self) -> None:
        """Let go of both backends."""
        del self._outliner, self._detector

    def run(
        self,
        image: ImageArgument,
        boxes: Annotated[list[Box], Field(min_length=1, max_length=MOST_REGIONS)] | None = None,
        points: Annotated[list[Point], Field(min_length=1, max_length=MOST_REGIONS)] | None = None,
        labels: Labels | None = None,
    ) -> Outlines:
        """Outline the thing in each box, at each point, or that has one of the labels, or all."""
        given = sum(argument is not None for argument in (boxes, points, labels))
        if given > 1:
            raise BadSkillUse(_ONE_OF)
        if given == 0:
            return self._everything(image)
        if labels is not None:
            return self._named(image, distinct(labels))
        places: Sequence[Corners | Position] = boxes or points or ()
        found = self._outlined(
            image, [(f"region {number}", place) for number, place in enumerate(places, 1)]
        )
        return Outlines(regions=found)

    def _everything(self, image: ImageArgument) -> Outlines:
        if not isinstance(self._outliner, EverythingOutliner):
            raise BadSkillUse(f"{_ONE_OF}; without them, only {_able()} outline everything")
        found = _distinct(self._outliner.everything(shrunk(image, _LONGEST)))
        regions = tuple(
            _region(f"region {number}", mask.fitted_to(image))
            for number, mask in enumerate(found[:MOST_REGIONS], 1)
        )
        more = len(found) > MOST_REGIONS
        return Outlines(
            regions=regions, note=f"These are the largest of {len(found)}." if more else ""
        )

    def _named(self, image: ImageArgument, labels: list[str]) -> Outlines:
        if isinstance(self._outliner, NamedOutliner):
            named = self._outliner.outline_named(image, labels)
            if named is not None:
                regions = tuple(_region(label, mask) for label, mask in named[:MOST_REGIONS])
                return Outlines(regions=regions, asked=tuple(labels))
        if not self._detector_is_loaded:
            self._detector.load(self._device)
            self._detector_is_loaded = True
        found = look_for(self._detector, image, labels)
        places = [(thing.label, thing.box) for thing in found.objects[:MOST_REGIONS]]
        regions = self._outlined(image, places)
        return Outlines(
            regions=regions, asked=tuple(labels), unknown=found.unknown, note=found.note
        )

    def _outlined(
        self, image: ImageArgument, places: Sequence[tuple[str, Corners | Position]]
    ) -> tuple[Region, ...]:
        regions = [
            _region(label, mask)
            for label, place in reporting_each(places, "regions")
            if (mask := self._outliner.outline(image, place))
        ]
        if places and not regions:
            raise SkillFailed("nothing there stands out from its surroundings enough to outline")
        return tuple(regions)


def _distinct(masks: Sequence[Mask]) -> list[Mask]:
    """The masks that are not empty, the largest first, without those that repeat a larger one."""
    ordered = sorted((mask for mask in masks if mask.area > 0), key=lambda mask: -mask.area)
    return [ordered[index] for index in distinct_masks(ordered, _SAME)]


def _able() -> str:
    """The backends that are `EverythingOutliner`s."""
    return wording.joined(
        [
            name
            for name, path in BACKENDS[Segment.name].items()
            if issubclass(pkgutil.resolve_name(path), EverythingOutliner)
        ]
    )


def _region(label: str, mask: Mask) -> Region:
    return Region(label=label, share=round(mask.area, 4), mask=mask)
