"""What the shortlist adds to the odds of a call."""

from __future__ import annotations

import pytest
from llava_plus.model.advice import Advice

KNOWN = frozenset({"detect", "adjust"})


@pytest.mark.parametrize(
    ("near", "nats"),
    [
        ({"detect": 0.6, "dominant_colours": 0.2}, 3),
        ({"detect": 0.1}, -2),
        ({"detect": 0.2, "dominant_colours": 0.3}, 1),
        ({"dominant_colours": 0.1}, -1),
        ({}, 0),
    ],
)
def test_a_near_skill_speaks_for_a_call_and_a_far_one_against(
    near: dict[str, float], nats: float
) -> None:
    advice = Advice(near, KNOWN, call_weight=10, neutral=0.3, new_neutral=0.2)
    assert advice.for_call() == pytest.approx(nats)


def test_once_the_nearest_skill_was_called_no_more_is_likely() -> None:
    near = {"detect": 0.4, "adjust": 0.5, "dominant_colours": 0.2}
    assert Advice(near, KNOWN, frozenset({"detect"})).for_call() == 0
    assert Advice(near, KNOWN, frozenset({"detect", "adjust"})).for_call() < 0
    assert Advice({}, KNOWN, frozenset({"detect"})).for_call() == 0


def test_a_choice_that_was_said_favours_its_skill_after_a_call() -> None:
    near = {"detect": 0.4, "adjust": 0.3, "segment": 0.5}
    first = Advice(near, KNOWN | {"segment"}, chosen=frozenset({"adjust"}))
    assert first.for_name("", "adj") == 0
    later = Advice(near, KNOWN, frozenset({"detect"}), frozenset({"adjust", "detect"}), choice=3)
    assert later.for_name("", "adj") == 3
    assert later.for_name("", "seg") == later.for_name("", "det") == 0


def test_a_skill_that_is_new_is_favoured_as_far_as_it_is_nearer_than_all_familiar_ones() -> None:
    near = {"detect": 0.2, "adjust": 0.5, "dominant_colours": 0.6, "domino": 0.3}
    advice = Advice(near, KNOWN, name_weight=10)
    assert advice.for_name("", "dom") == pytest.approx(1)
    assert advice.for_name("dom", "inant") == pytest.approx(1)
    assert advice.for_name("dom", "ino") == 0, "farther than a familiar skill"
    assert advice.for_name("", "adj") == advice.for_name("", "det") == 0
    assert advice.for_name("", "no") == 0
    assert Advice(near, name_weight=10).for_name("", "ad") == pytest.approx(5)
