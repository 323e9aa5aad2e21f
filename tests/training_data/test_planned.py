"""The planner's lessons: requests of the bank, and what they want in order."""

from __future__ import annotations

import re

import pytest
from llava_plus.model.training.planner import Planned
from llava_plus.training_data.catalogue import catalogue
from llava_plus.training_data.planned import Lessons


@pytest.fixture(scope="module")
def lessons() -> list[Planned]:
    return Lessons(seed=3).draw(rounds=1, joined=300)


def test_lessons_depend_on_the_seed_alone(lessons: list[Planned]) -> None:
    assert Lessons(seed=3).draw(rounds=1, joined=300) == lessons
    assert Lessons(seed=4).draw(rounds=1, joined=300) != lessons


def test_lessons_have_no_open_slots_and_know_the_catalogue(lessons: list[Planned]) -> None:
    assert not [one for one in lessons if re.search(r"\{[a-z]+\}", one.asked.text)]
    wanted = {name for one in lessons for name in one.skills or ()}
    assert wanted == set(catalogue())
    assert any(one.skills is None for one in lessons)
    assert any(one.skills == () for one in lessons)


def test_places_that_exist_are_told(lessons: list[Planned]) -> None:
    named = [one.asked for one in lessons if "mask_" in one.asked.text and one.skills]
    assert named
    assert all(asked.masked for asked in named)
    marked = [one for one in lessons if one.asked.marked]
    assert {("adjust",), ("ocr",), ("inpaint",)} <= {one.skills for one in marked}


def test_joined_wishes_are_of_several_skills(lessons: list[Planned]) -> None:
    assert all(len(one.skills or ()) >= 2 for one in lessons[-300:])
