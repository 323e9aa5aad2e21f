"""The threshold above which a tag is told, chosen on pictures whose tags are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Calibration", "Counts", "Scored", "calibrated"]

_FOLDS = 5


@dataclass(frozen=True)
class Scored:
    """One picture: the scores of its tags in question, and which of them a person gave it.

    `scores` is NaN for tags that are not among the picture's best and so are never told; both
    arrays are (tags in question,), the same tags for every picture.
    """

    scores: NDArray[np.float32]
    fits: NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Tags told that fit, tags told that do not, and tags that fit but were not told."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """The share of the told tags that fit."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """The share of the fitting tags that were told."""
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True)
class Calibration:
    """A threshold, what it does on the pictures it was chosen on, and on ones it was not.

    For `held_out` each fifth of the pictures is counted with a threshold chosen on the others.
    """

    threshold: float
    chosen: Counts
    held_out: Counts
    curve: tuple[tuple[float, Counts], ...]


def calibrated(pictures: Sequence[Scored]) -> Calibration:
    """The threshold with the highest F1 over all pairs of picture and tag.

    Raises `BadInput` when there are fewer than ten pictures or no told tag fits any of them.
    """
    if len(pictures) < 2 * _FOLDS:
        raise BadInput(f"{len(pictures)} pictures are too few to choose on; at least {2 * _FOLDS}")
    curve = tuple(_curve(pictures))
    if not any(counts.right for _, counts in curve):
        raise BadInput("none of the tags that were given is among the best of its picture")
    threshold = _best(curve)
    folds = [pictures[start::_FOLDS] for start in range(_FOLDS)]
    held_out = Counts(0, 0, 0)
    for number, fold in enumerate(folds):
        others = [one for place, part in enumerate(folds) if place != number for one in part]
        here = count(fold, _best(tuple(_curve(others))))
        held_out = Counts(
            held_out.right + here.right,
            held_out.wrong + here.wrong,
            held_out.missed + here.missed,
        )
    return Calibration(threshold, count(pictures, threshold), held_out, curve)


def count(pictures: Sequence[Scored], threshold: float) -> Counts:
    """What is told with one threshold."""
    right = sum(int(((one.scores >= threshold) & one.fits).sum()) for one in pictures)
    told = sum(int((one.scores >= threshold).sum()) for one in pictures)
    fitting = sum(int(one.fits.sum()) for one in pictures)
    return Counts(right, told - right, fitting - right)


def _curve(pictures: Sequence[Scored]) -> Iterator[tuple[float, Counts]]:
    """The counts at every score that there is, the highest first."""
    import numpy as np

    scores = np.concatenate([one.scores for one in pictures])
    fits = np.concatenate([one.fits for one in pictures])
    fitting = int(fits.sum())
    told = ~np.isnan(scores)
    order = np.argsort(-scores[told], kind="stable")
    scores, right = scores[told][order], np.cumsum(fits[told][order])
    last_of_equals = np.flatnonzero(np.append(np.diff(scores) != 0, True)[: len(scores)])
    for place in last_of_equals:
        hits = int(right[place])
        yield float(scores[place]), Counts(hits, int(place) + 1 - hits, fitting - hits)


def _best(curve: Sequence[tuple[float, Counts]]) -> float:
    """The threshold of the highest F1, half-way to the next score below so that it is no edge."""
    if not curve:
        return 1.0
    place = max(range(len(curve)), key=lambda index: curve[index][1].f1)
    score = curve[place][0]
    below = curve[place + 1][0] if place + 1 < len(curve) else 0.0
    return _short((score + below) / 2, below, score)


def _short(value: float, below: float, most: float) -> float:
    """A number near `value`, over `below` and up to `most`, with as few digits as that takes."""
    for digits in range(2, 17):
        short = float(f"{value:.{digits}g}")
        if below < short <= most:
            return short
    return most
