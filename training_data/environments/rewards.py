"""What is good about a turn: small scores from 0 to 1, each by one name.

They are the figures of `llava-plus evaluate` for a single turn. None means that a score does not
apply: there is nothing to leave alone where a skill is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...model.conversation import SkillMessage
from ..evaluate import Verdict

__all__ = ["REWARDS", "Reward"]

Reward = Callable[[Verdict], float | None]

_MODELS_FAULT = frozenset(("BadSkillUse", "UnknownSkill"))
"""Problems of a call that another call would not have had."""


def right_skill(verdict: Verdict) -> float | None:
    """The first call is of the right skill."""
    return float(verdict.right_skill) if verdict.case.expect else None


def arguments_exact(verdict: Verdict) -> float | None:
    """The first call is of the right skill with the right arguments."""
    return float(verdict.exact) if verdict.case.expect else None


def arguments_valid(verdict: Verdict) -> float | None:
    """The share of calls that fit their spec and had not been made before."""
    if not verdict.called:
        return None
    return 1 - len(_faults(verdict)) / len(verdict.called)


def progress(verdict: Verdict) -> float | None:
    """The share of the plan's calls that were made, in order, before the first wrong one."""
    plan = verdict.case.plan
    if not plan:
        return None
    pairs = enumerate(zip(plan, verdict.called, strict=False))
    done = next((n for n, (wanted, made) in pairs if wanted != made), None)
    return (min(len(plan), len(verdict.called)) if done is None else done) / len(plan)


def plan_complete(verdict: Verdict) -> float | None:
    """All calls of the plan were made, no others, and an answer closed the turn.

    After a skill has failed it is right to stop, but not after a call that was wrong.
    """
    if not verdict.case.expect:
        return None
    return float(verdict.stopped and not _faults(verdict))


def answer_faithful(verdict: Verdict) -> float | None:
    """The answer says what was found."""
    return None if verdict.faithful is None else float(verdict.faithful)


def left_alone(verdict: Verdict) -> float | None:
    """No skill is called where none is needed."""
    return None if verdict.case.expect else float(not verdict.called)


def _faults(verdict: Verdict) -> list[SkillMessage]:
    results = (m for m in verdict.said if isinstance(m, SkillMessage))
    return [m for m in results if m.result.error and m.result.error.kind in _MODELS_FAULT]


REWARDS: Mapping[str, Reward] = {
    reward.__name__: reward
    for reward in (
        right_skill,
        arguments_exact,
        arguments_valid,
        progress,
        plan_complete,
        answer_faithful,
        left_alone,
    )
}
