"""Whether a model got better: the same tasks before and after, compared one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

__all__ = ["Gain", "gain"]

_ROUNDS = 10_000


@dataclass(frozen=True)
class Gain:
    """A mean score before and after, with the 95 % interval of the difference.

    `better` and `worse` tasks have changed; `chance` is the probability of so uneven a split, or
    a more uneven one, if a change were as likely for the better as for the worse (the exact test
    of McNemar, where scores are 0 or 1).
    """

    tasks: int
    before: float
    after: float
    low: float
    high: float
    better: int
    worse: int
    chance: float


def gain(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Gain:
    """Compare the scores of the same tasks; the interval is that of the paired bootstrap."""
    changes = [late - early for early, late in zip(before, after, strict=True)]
    rng, count = random.Random(seed), len(changes)
    means = sorted(sum(rng.choices(changes, k=count)) / count for _ in range(_ROUNDS))
    better = sum(change > 0 for change in changes)
    worse = sum(change < 0 for change in changes)
    return Gain(
        tasks=count,
        before=sum(before) / count,
        after=sum(after) / count,
        low=means[round(0.025 * (_ROUNDS - 1))],
        high=means[round(0.975 * (_ROUNDS - 1))],
        better=better,
        worse=worse,
        chance=_sign_test(better, worse),
    )


def _sign_test(better: int, worse: int) -> float:
    """Two-sided probability of a split at least so uneven, of fair coins."""
    count = better + worse
    tail = sum(comb(count, k) for k in range(min(better, worse) + 1))
    return min(1.0, tail / 2 ** (count - 1)) if count else 1.0
