"""Wider requests: every thing asked for is an argument, every wish a step."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.training_data.bank import Bank, Plan, Request, Step
from llava_plus.training_data.slots import Filler, fill_value
from llava_plus.training_data.widening import one_after_another, several_things

BANK = Bank()
SEEDS = st.integers(0, 10_000)
SINGLE = [
    request
    for name in ("detect", "segment")
    for request in BANK.skills[name]
    if request.arguments.get("labels") in ("[{a}]", "[{as}]")
]


@given(request=st.sampled_from(SINGLE), seed=SEEDS)
def test_all_that_is_asked_for_stands_in_the_request(request: Request, seed: int) -> None:
    rng = random.Random(seed)
    wide = several_things(request, rng)
    filler = Filler.of(BANK, rng)
    said = filler.fill(wide.text)
    labels = fill_value(wide.arguments["labels"], filler)
    assert isinstance(labels, list)
    assert all(label in said for label in labels)
    assert "{" not in said


@pytest.mark.parametrize(
    ("text", "label", "starts"),
    [
        ("box the {a} for me", "[{a}]", "box the {a}, the {b}"),
        ("all {as} please", "[{as}]", "all {as}, {bs}"),
        ("is there a {a}?", "[{a}]", "is there a {a}, a {b}"),
    ],
)
def test_an_article_stands_before_each(text: str, label: str, starts: str) -> None:
    found = {
        several_things(Request(text, {"labels": label}), random.Random(i)).text for i in range(40)
    }
    assert any(said.startswith(starts) for said in found), found


@pytest.mark.parametrize(
    "request_",
    [
        Request("find my {a} near the {b}", {"labels": "[{a}]"}),
        Request("find my keys", {"labels": "[keys]"}),
        Request("read it"),
    ],
)
def test_other_requests_stay_as_they_are(request_: Request) -> None:
    assert several_things(request_, random.Random(0)) == request_


@given(
    seed=SEEDS,
    names=st.lists(st.sampled_from(["ocr", "detect", "tag", "edit"]), min_size=2, max_size=3),
)
def test_every_wish_becomes_a_step_in_its_order(seed: int, names: list[str]) -> None:
    rng = random.Random(seed)
    requests = [rng.choice(BANK.skills[name]) for name in names]
    wishes = [
        Plan(request.text, ((Step(name, request.arguments),),))
        for name, request in zip(names, requests, strict=True)
    ]
    plan = one_after_another(wishes, rng)
    assert plan.skills == names
    assert not re.search(r"[.?!][.,;]", plan.text.replace("...", ""))
    for request, (step,) in zip(requests, plan.rounds, strict=True):
        said = _without_letters(request.text).strip().rstrip(".!?").lower()
        assert said in _without_letters(plan.text).lower()
        for value, before in zip(step.arguments.values(), request.arguments.values(), strict=True):
            assert _without_letters(value) == _without_letters(before)
            for part, old in zip(_parts(value), _parts(before), strict=True):
                assert (old in request.text) <= (part in plan.text)


@given(seed=SEEDS)
def test_wishes_are_mostly_about_things_of_their_own(seed: int) -> None:
    wish = Plan("find the {a} and the {bs}", ((Step("detect", {"labels": "[{a}, {bs}]"}),),))
    plan = one_after_another([wish, wish, wish], random.Random(seed))
    slots = re.findall(r"\{\w+\}", plan.text)
    assert slots in (["{a}", "{bs}"] * 3, ["{a}", "{bs}", "{d}", "{es}", "{u}", "{vs}"])
    assert [slot for (step,) in plan.rounds for slot in _parts(step.arguments["labels"])] == slots


def test_a_plan_can_stand_among_the_wishes() -> None:
    blur = (Step("detect", {"labels": "[{a}]"}),), (Step("adjust", {"target": "$boxes"}),)
    wishes = [Plan("Read it.", ((Step("ocr", {}),),)), Plan("Blur the {a}.", blur)]
    plan = one_after_another(wishes, random.Random(0))
    assert plan.skills == ["ocr", "detect", "adjust"]
    assert plan.rounds[-1][0].arguments == {"target": "$boxes"}


def _without_letters(text: str) -> str:
    return re.sub(r"\{[a-fuvw](s?)\}", r"{\1}", text)


def _parts(value: str) -> list[str]:
    return value.strip("[]").split(", ")
