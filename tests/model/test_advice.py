"""What shortlist and planner add to the odds of a call and of a skill's name."""

from __future__ import annotations

import pytest
from llava_plus.model.advice import Advice
from llava_plus.model.planner import Outlook

KNOWN = frozenset({"detect", "adjust"})
PLAN = Outlook({"detect": -0.5, "adjust": -2.5, "domino": -3.5}, call=-0.4, words=-1.4)


@pytest.mark.parametrize(("cosine", "nats"), [(0.5, 3), (0.2, 0), (0.1, -1)])
def test_a_new_skill_that_is_nearest_speaks_for_a_call_as_far_as_it_is_near(
    cosine: float, nats: float
) -> None:
    advice = Advice({"domino": cosine, "adjust": 0.05}, KNOWN, outlook=PLAN, call_weight=10)
    assert advice.for_call() == pytest.approx(nats)


def test_elsewhere_the_plan_speaks() -> None:
    near = {"detect": 0.4, "adjust": 0.5, "domino": 0.2}
    assert Advice(near, KNOWN, outlook=PLAN, plan_weight=2).for_call() == pytest.approx(2)
    called = frozenset({"adjust"})
    assert Advice(near, KNOWN, called, PLAN, plan_weight=2).for_call() == pytest.approx(2)
    assert Advice(near, KNOWN).for_call() == 0, "there is no plan"
    assert Advice({}, KNOWN).for_call() == 0, "nothing is on offer"


def test_once_a_new_skill_that_is_nearest_was_called_no_more_is_likely() -> None:
    near = {"detect": 0.4, "domino": 0.6}
    assert Advice(near, KNOWN, frozenset({"detect"}), PLAN).for_call() == 0
    assert Advice(near, KNOWN, frozenset({"detect", "domino"}), PLAN).for_call() < 0


def test_names_are_favoured_as_the_plan_has_them() -> None:
    near = {"detect": 0.4, "adjust": 0.5, "domino": 0.2}
    advice = Advice(near, KNOWN, outlook=PLAN, order_weight=2)
    assert advice.for_name("", "det") == pytest.approx(6)
    assert advice.for_name("ad", "just") == pytest.approx(2)
    assert advice.for_name("", "d") == pytest.approx(6), "detect can still follow"
    assert advice.for_name("", "dom") == advice.for_name("", "no") == 0


def test_a_new_skill_that_is_nearest_is_not_outdone_by_the_plan() -> None:
    near = {"detect": 0.4, "adjust": 0.5, "domino": 0.6}
    advice = Advice(near, KNOWN, outlook=PLAN, order_weight=2, name_weight=10)
    assert advice.for_name("", "dom") == pytest.approx(7)
    assert advice.for_name("", "det") == pytest.approx(6)


def test_a_skill_that_is_new_is_favoured_as_far_as_it_is_nearer_than_all_familiar_ones() -> None:
    near = {"detect": 0.2, "adjust": 0.5, "dominant_colours": 0.6, "domino": 0.3}
    advice = Advice(near, KNOWN, name_weight=10)
    assert advice.for_name("", "dom") == pytest.approx(1)
    assert advice.for_name("dom", "inant") == pytest.approx(1)
    assert advice.for_name("dom", "ino") == 0, "farther than a familiar skill"
    assert advice.for_name("", "adj") == advice.for_name("", "det") == 0
    assert advice.for_name("", "no") == 0
    assert Advice(near, name_weight=10).for_name("", "ad") == pytest.approx(5)
    assert Advice(near, KNOWN, frozenset({"detect"}), name_weight=10).for_name("", "dom") == 0
