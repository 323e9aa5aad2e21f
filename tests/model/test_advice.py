"""What the shortlist adds to the odds of a call."""

from __future__ import annotations

import pytest
from llava_plus.model.advice import Advice

ADVICE = Advice({"detect": 0.2, "dominant_colours": 0.6}, call_weight=10, neutral=0.3)


def test_a_near_skill_speaks_for_a_call_and_a_far_one_against() -> None:
    assert ADVICE.for_call() == pytest.approx(3)
    assert Advice({"detect": 0.1}, call_weight=10, neutral=0.3).for_call() == pytest.approx(-2)
    assert Advice({}).for_call() == 0
