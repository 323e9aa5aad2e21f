"""What the shortlist adds to the odds of a call, and of a skill's name while it is written."""

from __future__ import annotations

import pytest
from llava_plus.model.advice import Advice

ADVICE = Advice(
    {"detect": 0.2, "dominant_colours": 0.6}, call_weight=10, neutral=0.3, name_weight=5
)
BEFORE = '<|call|>{"name": "'


def test_a_near_skill_speaks_for_a_call_and_a_far_one_against() -> None:
    assert ADVICE.for_call() == pytest.approx(3)
    assert Advice({"detect": 0.1}, call_weight=10, neutral=0.3).for_call() == pytest.approx(-2)
    assert Advice({}).for_call() == 0


@pytest.mark.parametrize(
    ("written", "piece", "nats"),
    [
        (BEFORE, " d", 3.0),
        (BEFORE, " det", 1.0),
        (BEFORE + " d", "ominant", 3.0),
        (BEFORE + " dominant_", "colours", 3.0),
        (BEFORE + " detect", '"', 1.0),
        (BEFORE, " ocr", 0.0),
        ('<|call|>{"name": " detect", "arguments": {"labels": ["', " dog", 0.0),
    ],
)
def test_a_piece_of_a_name_gets_the_best_of_the_names_it_may_become(
    written: str, piece: str, nats: float
) -> None:
    assert ADVICE.for_name(written, piece) == pytest.approx(nats)
