"""Calls that a turn has made already, and words that go round in circles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.repeating import goes_round, made_before
from llava_plus.skills import ImageRef, SkillUse
from llava_plus.skills.calls import Artifact, SkillResult

MADE = Artifact(image=ImageRef(sha256="1" * 64, media_type="image/png", width=4, height=3))


def use(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id="new", name=name, arguments=arguments)


def called(*uses: SkillUse) -> Conversation:
    """A turn about two images in which these calls were made; `adjust` makes an image."""
    conversation = Conversation().ask_about("Go on.", ["img_1", "img_2"])
    for number, made in enumerate(uses):
        own = made.model_copy(update={"id": f"call_{number}"})
        conversation = conversation.reply(AssistantMessage(skill_uses=(own,)))
        artifacts = (MADE,) if own.name == "adjust" else ()
        result = SkillResult(id=own.id, name=own.name, text="Done.", artifacts=artifacts)
        conversation = conversation.add_result(result)
    return conversation


FOUND = use("detect", image="img_1", labels=["cat"])
BLURRED = use("adjust", image="img_1", operation="blur")


@pytest.mark.parametrize(
    ("before", "new", "repeated"),
    [
        ([FOUND], [FOUND], True),
        ([FOUND], [use("detect", image="img_1", labels=["dog"])], False),
        ([FOUND], [use("detect", image="img_2", labels=["cat"])], False),
        ([FOUND], [use("segment", image="img_1", labels=["cat"])], False),
        ([BLURRED], [use("adjust", image="img_3", operation="blur")], True),
        ([BLURRED, BLURRED], [use("adjust", image="img_4", operation="blur")], True),
        ([BLURRED], [use("adjust", image="img_2", operation="blur")], False),
        ([FOUND, BLURRED], [use("detect", image="img_3", labels=["cat"])], True),
        ([FOUND], [FOUND, use("ocr", image="img_1")], False),
        ([], [FOUND], False),
        ([FOUND], [], False),
    ],
)
def test_the_same_call_about_an_image_or_what_came_of_it_is_a_repetition(
    before: list[SkillUse], new: list[SkillUse], repeated: bool
) -> None:
    assert made_before(new, called(*before).turn) is repeated


def test_what_an_earlier_turn_called_may_be_called_again() -> None:
    asked_again = called(FOUND).reply(AssistantMessage(text="One cat.")).ask("And now?")
    assert not made_before([FOUND], asked_again.turn)


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3), min_size=1, max_size=32))
def test_what_is_said_over_and_over_goes_round_whatever_stood_before(
    before: list[int], said: list[int]
) -> None:
    often = max(6, -(-48 // len(said)))
    assert goes_round([*before, *said * often])


@given(st.lists(st.integers(0, 10**6), max_size=400, unique=True), st.integers(1, 32))
def test_a_few_times_the_same_does_not_go_round(told: list[int], most: int) -> None:
    assert not goes_round(told)
    few = told[:most]
    assert not goes_round(few * min(5, 47 // max(1, len(few))))
