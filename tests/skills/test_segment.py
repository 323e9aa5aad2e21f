"""Outlines follow the thing, not its box."""

from __future__ import annotations

import numpy as np
import pytest
from llava_plus.skills import load_skill
from llava_plus.skills.errors import BadSkillUse, SkillFailed
from llava_plus.skills.segment import Outlines, Segment
from PIL import Image


@pytest.fixture(scope="module")
def segment() -> Segment:
    skill = load_skill("segment")
    assert isinstance(skill, Segment)
    skill.setup("cpu")
    return skill


def outline(segment: Segment, image: Image.Image, **arguments: object) -> Outlines:
    output = segment.call({"image": "img_1", **arguments}, images={"img_1": image})
    assert isinstance(output, Outlines)
    return output


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def disc() -> np.ndarray:
    y, x = np.mgrid[:300, :400]
    return (x - 200) ** 2 + (y - 150) ** 2 <= 60**2


@pytest.mark.parametrize("place", [{"boxes": [[0.3, 0.25, 0.7, 0.75]]}, {"points": [[0.5, 0.5]]}])
def test_a_ball_is_outlined_round(segment: Segment, ball: Image.Image, place: dict[str, object]):
    output = outline(segment, ball, **place)
    ((label, mask),) = output.masks()
    assert label == "region 1"
    assert mask.size == (300, 400)
    assert agreement(mask.array(), disc()) > 0.9
    share = f"{mask.area:.0%}".replace("%", " %")
    assert output.text() == f"Outlined 1 region: region 1 ({share} of the image)."


def test_a_large_image_gives_a_mask_of_its_own_size(segment: Segment, ball: Image.Image):
    large = ball.resize((2400, 1800))
    ((_, mask),) = outline(segment, large, boxes=[[0.3, 0.25, 0.7, 0.75]]).masks()
    assert mask.size == (1800, 2400)
    assert agreement(mask.array()[::6, ::6], disc()) > 0.85


def test_a_box_around_the_whole_image_still_finds_the_ball(segment: Segment, ball: Image.Image):
    ((_, mask),) = outline(segment, ball, boxes=[[0, 0, 1, 1]]).masks()
    assert agreement(mask.array(), disc()) > 0.8


def test_the_same_call_gives_the_same_mask(segment: Segment, ball: Image.Image):
    call = {"boxes": [[0.3, 0.25, 0.7, 0.75]]}
    assert outline(segment, ball, **call).regions == outline(segment, ball, **call).regions


def test_labels_are_looked_for_first(segment: Segment, astronaut: Image.Image):
    output = outline(segment, astronaut, labels=["person", "keys"])
    ((label, mask),) = output.masks()
    assert label == "person"
    assert mask.array()[110, 225]
    assert not mask.array()[100, 20]
    assert output.text().startswith("Outlined 1 region: person (")
    assert output.text().endswith("Not looked for (unknown to this detector): keys.")


def test_labels_that_are_not_there(segment: Segment, ball: Image.Image):
    output = outline(segment, ball, labels=["face"])
    assert output.text() == "Found no face to outline."
    assert list(output.masks()) == []


def test_labels_that_nobody_knows(segment: Segment, ball: Image.Image):
    with pytest.raises(BadSkillUse, match="'ball'"):
        outline(segment, ball, labels=["ball"])


def test_where_nothing_stands_out_it_says_so(segment: Segment):
    plain = Image.new("RGB", (200, 100), "white")
    with pytest.raises(SkillFailed, match="stands out"):
        outline(segment, plain, boxes=[[0.2, 0.2, 0.8, 0.8]])


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"boxes": [[0, 0, 1, 1]], "points": [[0.5, 0.5]]},
        {"boxes": []},
        {"boxes": [[0.5, 0.5, 0.2, 0.6]]},
        {"points": [[1.5, 0.5]]},
        {"labels": []},
    ],
)
def test_a_call_that_does_not_fit_is_refused(
    segment: Segment, ball: Image.Image, places: dict[str, object]
):
    with pytest.raises(BadSkillUse):
        outline(segment, ball, **places)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3000, 2), (2, 3000)])
@pytest.mark.parametrize(
    "place", [{"boxes": [[0, 0, 1, 1]]}, {"boxes": [[0.4, 0.4, 0.6, 0.6]]}, {"points": [[1, 1]]}]
)
def test_thin_and_tiny_images_can_be_outlined(
    segment: Segment, size: tuple[int, int], place: dict[str, object]
):
    try:
        masks = list(outline(segment, Image.new("RGB", size, "white"), **place).masks())
    except SkillFailed:
        return
    assert masks[0][1].size == size[::-1]


def test_masks_travel_beside_the_data(segment: Segment, ball: Image.Image):
    data = outline(segment, ball, points=[[0.5, 0.5]]).model_dump(mode="json")
    assert set(data["regions"][0]) == {"label", "share"}
