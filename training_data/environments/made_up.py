"""Results made up in the words of the real skills, for turns that need no worker."""

from __future__ import annotations

import json
import random

from ...agent.call_scope import CallScope
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ..outcomes import fail
from ..turns import finding
from .tasks import true_name

__all__ = ["MadeUpDispatcher"]

_FAILING = 0.1
"""In so many turns every call fails, as in `llava-plus evaluate`."""


class MadeUpDispatcher:
    """Answers the calls of one turn; the same `seed` and call bring the same finding."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._failing = random.Random(seed).random() < _FAILING

    async def specs(self) -> list[SkillSpec]:
        """None: it answers calls of any skill."""
        return []

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Make up what one use brings; see `Dispatcher`."""
        rng = random.Random(json.dumps([self._seed, use.name, use.arguments], sort_keys=True))
        if self._failing:
            return fail(use, rng)
        return finding(use, rng, true_name(use.name), scope.store)

    async def aclose(self) -> None:
        """Nothing is held."""
