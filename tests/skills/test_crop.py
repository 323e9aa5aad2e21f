"""Parts of images: exactly those pixels, or the same enlarged so that print can be read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.skills.crop import Crop, Part, Zoom
from llava_plus.skills.errors import BadSkillUse
from PIL import Image


@pytest.fixture(scope="module")
def page() -> Image.Image:
    """400 x 200 pixels, each telling its own column and row."""
    rows, columns = np.mgrid[:200, :400]
    return Image.fromarray(np.stack([columns % 256, columns // 256, rows], 2).astype(np.uint8))


def part(
    skill: Crop | Zoom, image: Image.Image, /, **arguments: object
) -> tuple[Part, Image.Image]:
    output = skill.call({"image": "img_1", **arguments}, images={"img_1": image})
    assert isinstance(output, Part)
    ((_, made),) = output.images()
    assert (output.width, output.height) == made.size
    return output, made


def test_a_crop_is_the_pixels_in_the_box(page: Image.Image) -> None:
    output, made = part(Crop(), page, box=[0.25, 0.5, 0.5, 0.75])
    assert np.array_equal(np.asarray(made), np.asarray(page)[100:150, 100:200])
    assert output.text() == "Cut out [0.25, 0.5, 0.5, 0.75]: 100 x 50 pixels."
    assert part(Crop(), page, box=[0, 0, 1, 1])[1].tobytes() == page.tobytes()


def test_a_zoomed_box_is_enlarged_by_the_same_both_ways(page: Image.Image) -> None:
    output, made = part(Zoom(), page, box=[0.25, 0.5, 0.5, 0.75])
    assert made.size == (1000, 500)
    assert output.text() == "Enlarged [0.25, 0.5, 0.5, 0.75] 10 times: 1000 x 500 pixels."
    assert np.asarray(made)[245:255, 495:505].mean((0, 1)) == pytest.approx([149.5, 0, 124.5], 0.02)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"point": [0.5, 0.5], "factor": 4}, (0.375, 0.375, 0.625, 0.625)),
        ({"point": [0.5, 0.5]}, (0.375, 0.375, 0.625, 0.625)),
        ({}, (0.375, 0.375, 0.625, 0.625)),
        ({"point": [0.0, 1.0], "factor": 4}, (0.0, 0.75, 0.25, 1.0)),
        ({"point": [1.0, 0.1], "factor": 2}, (0.5, 0.0, 1.0, 0.5)),
        ({"point": [0.3, 0.3], "factor": 1}, (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_around_a_point_the_part_stays_inside(
    page: Image.Image, arguments: dict[str, object], shown: tuple[float, ...]
) -> None:
    assert part(Zoom(), page, **arguments)[0].box == pytest.approx(shown, abs=0.006)


@pytest.mark.parametrize(
    ("size", "made"),
    [((1600, 800), (1600, 800)), ((8000, 400), (4000, 200)), ((3, 1), (1000, 333)), ((1, 1), None)],
)
def test_the_longer_side_has_its_limits(size: tuple[int, int], made: tuple[int, int]) -> None:
    output, picture = part(Zoom(), Image.new("RGB", size), box=[0, 0, 1, 1])
    assert picture.size == (made or (1000, 1000))
    assert output.text().startswith("Enlarged" if max(size) < 1000 else "Cut out")


fractions = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(x=st.tuples(fractions, fractions), y=st.tuples(fractions, fractions))
def test_every_box_can_be_zoomed(page: Image.Image, x: tuple[float, ...], y: tuple[float, ...]):
    box = [min(x), min(y), max(x), max(y)]
    if box[0] == box[2] or box[1] == box[3]:
        with pytest.raises(BadSkillUse, match="empty"):
            part(Zoom(), page, box=box)
        return
    output, made = part(Zoom(), page, box=box)
    assert max(made.size) == 1000
    cut = part(Crop(), page, box=box)[1]
    assert cut.width >= 400 * (box[2] - box[0]) - 1e-6
    assert cut.height <= math.ceil(200 * (box[3] - box[1])) + 1
    assert output.box == part(Crop(), page, box=box)[0].box


@pytest.mark.parametrize("skill", [Crop(), Zoom()])
@pytest.mark.parametrize(
    "arguments",
    [
        {"box": [0, 0, 1.2, 1]},
        {"box": [0.5, 0, 0.5, 1]},
        {"box": [0, 0, float("nan"), 1]},
        {"box": [0, 0, 1]},
        {"box": "img_1"},
        {"image": "img_2", "box": [0, 0, 1, 1]},
        {"box": [0, 0, 1, 1], "point": [0.5, 0.5]},
        {"box": [0, 0, 1, 1], "factor": 2},
        {"point": [0.5, 1.5]},
        {"point": [0.5, 0.5], "factor": 0.5},
        {"point": [0.5, 0.5], "factor": float("inf")},
    ],
)
def test_a_place_that_does_not_fit_is_refused(
    page: Image.Image, skill: Crop | Zoom, arguments: dict[str, object]
) -> None:
    with pytest.raises(BadSkillUse):
        part(skill, page, **arguments)
