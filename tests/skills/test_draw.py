"""Marks are where they were asked for, in their colour, on a copy."""

from __future__ import annotations

import numpy as np
import pytest
from llava_plus.skills.draw import Draw
from llava_plus.skills.errors import BadSkillUse
from PIL import Image, ImageChops

RED = (230, 30, 45)


@pytest.fixture
def wall() -> Image.Image:
    return Image.new("RGB", (1000, 500), (128, 128, 128))


def draw(image: Image.Image, /, **arguments: object) -> tuple[str, Image.Image]:
    output = Draw().call({"image": "img_1", **arguments}, images={"img_1": image})
    ((_, made),) = output.images()
    assert made.size == image.size
    return output.text(), made


def touched(before: Image.Image, after: Image.Image) -> tuple[int, int, int, int]:
    bounds = ImageChops.difference(before, after).getbbox()
    assert bounds
    return bounds


@pytest.mark.parametrize(
    ("marks", "bounds", "on", "off"),
    [
        ({"boxes": [[0.2, 0.4, 0.6, 0.8]]}, (200, 200, 600, 400), (200, 300), (400, 300)),
        ({"points": [[0.5, 0.5]]}, (493, 243, 507, 257), (500, 250), (515, 250)),
        ({"lines": [[0, 0.3, 1, 0.3]]}, (0, 149, 1000, 151), (500, 150), (500, 160)),
        ({"lines": [[0.7, 1, 0.7, 0]]}, (699, 0, 701, 500), (699, 250), (710, 250)),
        ({"lines": [[0.1, 0.2, 0.3, 0.6]]}, (100, 100, 300, 300), (200, 200), (200, 150)),
    ],
)
def test_a_mark_is_at_its_place(
    wall: Image.Image,
    marks: dict[str, object],
    bounds: tuple[int, ...],
    on: tuple[int, int],
    off: tuple[int, int],
) -> None:
    before = wall.copy()
    _, made = draw(wall, **marks)
    assert touched(wall, made) == pytest.approx(bounds, abs=6)
    assert made.getpixel(on) == RED
    assert made.getpixel(off) == (128, 128, 128)
    assert wall.tobytes() == before.tobytes(), "the image itself is left alone"


def test_the_text_counts_the_marks(wall: Image.Image) -> None:
    marks = {
        "boxes": [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]],
        "points": [[0.1, 0.9]],
        "lines": [[0, 0, 1, 1]],
        "texts": [{"text": "A", "point": [0.5, 0.5]}],
    }
    assert draw(wall, **marks)[0] == "Drew 2 boxes, 1 point, 1 line and 1 text."
    assert draw(wall, points=[[0, 0]])[0] == "Drew 1 point."


def test_words_stand_around_their_point_and_inside(wall: Image.Image) -> None:
    left, top, right, bottom = touched(
        wall, draw(wall, texts=[{"text": "EXIT", "point": [0.5, 0.5]}], colour="white")[1]
    )
    assert (left + right) / 2 == pytest.approx(500, abs=3)
    assert (top + bottom) / 2 == pytest.approx(250, abs=6)
    for point in ([0, 0], [1, 1]):
        made = draw(wall, texts=[{"text": "EXIT", "point": point}])[1]
        box = touched(wall, made)
        assert box[2] - box[0] == pytest.approx(right - left, abs=4), "nothing is cut off"
    long = draw(wall, texts=[{"text": "W" * 100, "point": [0.9, 0.5]}])[1]
    assert touched(wall, long)[0] > 0
    assert touched(wall, long)[2] < 1000


def test_labels_follow_the_order_of_the_marks(wall: Image.Image) -> None:
    marks = {"boxes": [[0.1, 0.5, 0.3, 0.9]], "points": [[0.7, 0.5]], "labels": ["", "x"]}
    with pytest.raises(BadSkillUse, match="labels"):
        draw(wall, **marks)
    plain = draw(wall, **{**marks, "labels": None})[1]
    first, second = (
        touched(plain, draw(wall, **{**marks, "labels": labels})[1])
        for labels in (["a very long label", "x"], ["x", "a very long label"])
    )
    assert first[0] < 110
    assert first[2] < 730
    assert second[2] > 800


def test_no_label_hides_a_dot(wall: Image.Image) -> None:
    points = [[0.5, 0.5], [0.5, 0.47], [0.5, 0.44], [0.52, 0.5]]
    made = draw(wall, points=points, labels=["one", "two", "three", "four"])[1]
    centres = [made.getpixel((round(x * 999), round(y * 499))) for x, y in points]
    assert centres == [RED] * 4


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (40, 30)])
def test_small_images_can_be_drawn_on(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    draw(
        image,
        boxes=[[0, 0, 0.01, 0.01]],
        points=[[1, 1]],
        lines=[[0, 0, 1, 0]],
        labels=["a", "b", "c"],
        texts=[{"text": "many words", "point": [1, 0]}],
    )


def test_colours_differ(wall: Image.Image) -> None:
    names = Draw().spec.parameters["properties"]["colour"]["enum"]
    pictures = {draw(wall, points=[[0.5, 0.5]], colour=name)[1].tobytes() for name in names}
    assert len(pictures) == len(names) == 9
    assert np.asarray(draw(wall, points=[[0.5, 0.5]], colour="blue")[1])[250, 500].argmax() == 2


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ({}, "give boxes, points, lines or texts"),
        ({"labels": ["a"]}, "give boxes"),
        ({"boxes": []}, "at least 1"),
        ({"boxes": [[0, 0, 2, 1]]}, "less than or equal to 1"),
        ({"points": [[0, float("nan")]]}, "points"),
        ({"points": [[0, 0]] * 101}, "at most 100"),
        ({"lines": [[0.5, 0.5, 0.5, 0.5]]}, "both its ends at one place"),
        ({"texts": [{"text": " ", "point": [0, 0]}]}, "at least 1 character"),
        ({"texts": [{"text": "a"}]}, "Field required"),
        ({"points": [[0, 0]], "labels": ["a", "b"]}, "2 labels for 1"),
        ({"points": [[0, 0]], "colour": "#ff0000"}, "colour"),
        ({"points": [[0, 0]], "image": "img_7"}, "no image 'img_7'"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    wall: Image.Image, marks: dict[str, object], told: str
) -> None:
    with pytest.raises(BadSkillUse, match=told):
        draw(wall, **marks)
