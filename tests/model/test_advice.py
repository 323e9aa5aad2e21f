"""What the shortlist adds to the odds of a call, and of a skill's name while it is written."""

from __future__ import annotations

import pytest
from llava_plus.model.advice import Advice
from llava_plus.model.rendering import ChatRenderer

ADVICE = Advice(
    {"detect": 0.2, "dominant_colours": 0.6}, call_weight=10, neutral=0.3, name_weight=5
)


def test_a_near_skill_speaks_for_a_call_and_a_far_one_against() -> None:
    assert ADVICE.for_call() == pytest.approx(3)
    assert Advice({"detect": 0.1}, call_weight=10, neutral=0.3).for_call() == pytest.approx(-2)
    assert Advice({}).for_call() == 0


@pytest.mark.parametrize(
    ("begun", "piece", "nats"),
    [
        ("", " d", 3.0),
        ("", " det", 1.0),
        (" d", "ominant", 3.0),
        (" dominant_", "colours", 3.0),
        (" detect", '"', 1.0),
        ("", " ocr", 0.0),
    ],
)
def test_a_piece_of_a_name_gets_the_best_of_the_names_it_may_become(
    begun: str, piece: str, nats: float
) -> None:
    assert ADVICE.for_name(begun, piece) == pytest.approx(nats)


@pytest.mark.parametrize(
    ("reply", "begun"),
    [
        ('<|call|>{"name": "', ""),
        ('<|call|>{"name": " dominant_', " dominant_"),
        ('<|call|>{"name": " a", "arguments": {}}<|call|>{"name": " b', " b"),
        ('<|call|>{"name": " detect", "arguments": {"labels": ["', None),
        ('<|call|>{"name": " greet", "arguments": {"name": " Ann', None),
        ("It says", None),
    ],
)
def test_only_the_name_of_a_call_is_one(
    renderer: ChatRenderer, reply: str, begun: str | None
) -> None:
    """Not an argument that is called `name`."""
    assert renderer.format.begun_name(reply) == begun
