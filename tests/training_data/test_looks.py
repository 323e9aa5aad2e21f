"""Seeing: questions about rendered scenes, and what counts as a right answer."""

from __future__ import annotations

import asyncio

from llava_plus.model.conversation import Conversation
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.training_data.looks import evaluate_looks


def test_what_is_right_is_counted_by_kind() -> None:
    """Whoever calls everything a drawing is right about some kinds, and about nothing else."""
    lmm = ScriptedLMM(["it is a drawing"] * 60)
    seen = asyncio.run(evaluate_looks(lmm, 60))
    assert sum(asked for _, asked in seen.values()) == 60
    right, asked = seen["kind"]
    assert 0 < right <= asked
    assert all(right == 0 for kind, (right, _) in seen.items() if kind != "kind")
    assert all(asked.images for asked in lmm.asked)


def test_questions_depend_on_the_seed_alone() -> None:
    def asked(seed: int) -> list[Conversation]:
        lmm = ScriptedLMM(["x"] * 5)
        asyncio.run(evaluate_looks(lmm, 5, seed=seed))
        return lmm.asked

    assert asked(1) == asked(1) != asked(2)
