"""Detectors for things of fixed kinds, which are asked for in everyday words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..geometry import Corners
from ..wording import singular
from . import Detection, Findings
from .opencv_words import Meaning, caveat, meaning

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ClosedVocabulary", "Sighting", "under_labels"]


class Sighting(NamedTuple):
    """A thing of the kind that has the number `kind` in a detector's list."""

    kind: int
    box: Corners
    score: float


def under_labels(labels: Mapping[str, int], sightings: Iterable[Sighting]) -> tuple[Detection, ...]:
    """Things under every label that stands for their kind: by label, then the surest first."""
    surest = sorted(sightings, key=lambda seen: -seen.score)
    return tuple(
        Detection(label=label, box=seen.box, score=round(seen.score, 3))
        for label, kind in labels.items()
        for seen in surest
        if seen.kind == kind and seen.box.area > 0
    )


class ClosedVocabulary(ABC):
    """A `Detector` for the kinds of things that its model was trained on."""

    @property
    @abstractmethod
    def _kinds(self) -> Mapping[int, str]:
        """The name of each kind, by its number."""

    @abstractmethod
    def _see(
        self, image: Image, kinds: Iterable[int], threshold: float | None
    ) -> Iterable[Sighting]:
        """Things of these kinds with a score of `threshold` or more, in any order."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The kinds of things that it knows."""
        return tuple(self._kinds.values())

    def detect(self, image: Image, labels: Sequence[str], threshold: float | None) -> Findings:
        """Things with a score of `threshold` or more, the surest first within a label."""
        numbers = {name.lower(): number for number, name in self._kinds.items()}
        known = {label: found for label in labels if (found := _meant(label, numbers))}
        wanted = {label: numbers[found.kind] for label, found in known.items()}
        seen = self._see(image, set(wanted.values()), threshold) if wanted else ()
        return Findings(
            objects=under_labels(wanted, seen),
            unknown=tuple(label for label in labels if label not in known),
            note=caveat(known.items()),
        )


def _meant(label: str, kinds: Mapping[str, int]) -> Meaning | None:
    """Which kind of thing a label means; words for people mean `person`, where that is known."""
    words = " ".join(label.lower().split())
    for name in (words, singular(words)):
        if name in kinds:
            return Meaning(name)
    found = meaning(label)
    return found if found and found.kind in kinds else None
