"""What is drawn on images, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llava_plus.agent.drawing import annotate
from llava_plus.skills import Artifact, Mask, SkillResult
from llava_plus.skills.canvas import COLOURS
from PIL import Image, ImageChops

# pycocotools 2.0.11 with numpy 2: its own decode warns.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def result(data: dict[str, Any] | None = None, *artifacts: Artifact) -> SkillResult:
    return SkillResult(id="a", name="any", data=data or {}, artifacts=artifacts)


def changed(before: Image.Image, after: Image.Image) -> tuple[int, int, int, int]:
    """The part that was drawn on, in pixels of an image 1000 wide."""
    bounds = ImageChops.difference(before.convert("RGB"), after).getbbox()
    assert bounds
    return bounds


def grey(width: int = 1000, height: int = 1000) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def test_draws_a_box_and_its_label_in_place() -> None:
    image = grey()
    box = {"label": "cat", "score": 0.91, "box": [0.2, 0.5, 0.6, 0.9]}
    drawn = annotate(image, result({"objects": [box]}))
    assert drawn
    left, top, right, bottom = changed(image, drawn)
    assert (left, right, bottom) == pytest.approx((200, 600, 900), abs=6)
    assert 455 < top < 500, "the label stands on the box"
    assert image.getpixel((200, 700)) == (128, 128, 128), "the image itself is left alone"


@pytest.mark.parametrize("number", range(len(COLOURS)))
@pytest.mark.parametrize("kind", ["objects", "lines"])
def test_a_frame_shows_on_a_ground_of_its_own_colour(kind: str, number: int) -> None:
    image = Image.new("RGB", (1000, 1000), COLOURS[number])
    corner = {"label": "0", "text": "0", "box": [0, 0, 0.01, 0.01]}
    found = [corner | {"label": str(n)} for n in range(number)]
    found.append({"label": "last", "text": "last", "box": [0.25, 0.25, 0.75, 0.75]})
    drawn = annotate(image, result({kind: found}))
    assert drawn
    across = np.asarray(drawn.convert("L").crop((600, 700, 601, 800)), dtype=int)[:, 0]
    assert np.ptp(across) > 50


def test_draws_a_point_and_its_label_beside_it() -> None:
    image = grey()
    drawn = annotate(image, result({"points": [{"label": "cat", "point": [0.4, 0.7]}]}))
    assert drawn
    assert drawn.getpixel((400, 699)) == (230, 57, 70)
    left, top, right, bottom = changed(image, drawn)
    assert right - left < 80
    assert bottom - top < 60


@pytest.mark.parametrize("size", [(1, 1), (20, 400), (60, 40), (5000, 30), (3000, 2000)])
def test_labels_fit_at_every_size(size: tuple[int, int]) -> None:
    boxes = [
        {"label": "a person with an umbrella", "score": 1.0, "box": [0, 0, 1, 1]},
        {"label": "edge", "box": [0.9, 0.0, 1.0, 0.02]},
        {"label": "point", "box": [0.5, 0.5, 0.5, 0.5]},
    ]
    drawn = annotate(grey(*size), result({"objects": boxes}))
    assert drawn
    assert max(drawn.size) >= 800
    assert drawn.width / drawn.height == pytest.approx(size[0] / size[1], rel=0.05)


def test_kinds_have_colours_of_their_own() -> None:
    boxes = [
        {"label": label, "box": [x, 0.5, x + 0.2, 0.9]}
        for label, x in (("cat", 0.0), ("dog", 0.3), ("cat", 0.6))
    ]
    drawn = annotate(grey(), result({"objects": boxes}))
    assert drawn
    one, other, again = (drawn.getpixel((round(x * 999) + 1, 700)) for x in (0.0, 0.3, 0.6))
    assert one == again != other


def test_tints_a_mask_and_nothing_else() -> None:
    cells = np.zeros((50, 100), dtype=bool)
    cells[10:40, 50:90] = True
    image = grey(1000, 500)
    drawn = annotate(image, result({}, Artifact(mask=Mask.from_array(cells))))
    assert drawn
    assert changed(image, drawn) == pytest.approx((500, 100, 900, 400), abs=6)
    assert drawn.getpixel((700, 250)) != drawn.getpixel((501, 250)), "the edge is stronger"


def test_the_label_of_a_large_region_stands_inside_it() -> None:
    cells = np.zeros((100, 100), dtype=bool)
    cells[:, :10] = cells[60:, :] = True  # its box is the whole image, most of which is not in it
    region = Mask.from_array(cells)
    unlabelled = annotate(grey(), result({}, Artifact(mask=region)))
    labelled = annotate(grey(), result({}, Artifact(mask=region, label="grass")))
    assert unlabelled
    assert labelled
    left, top, right, bottom = changed(unlabelled, labelled)
    assert 600 < top < bottom < 1000
    assert 0 < left < right < 1000


def test_an_empty_mask_draws_nothing() -> None:
    mask = Mask.from_array(np.zeros((5, 5), dtype=bool))
    drawn = annotate(grey(), result({}, Artifact(mask=mask, label="nothing")))
    assert drawn is not None
    assert not ImageChops.difference(grey(), drawn).getbbox()


def test_lists_lines_of_text_beside_the_image() -> None:
    lines = [{"text": f"Zeile {n} 合計", "score": 0.9, "box": [0.1, n / 60, 0.9, (n + 1) / 60]}
             for n in range(60)]  # fmt: skip
    drawn = annotate(grey(400, 300), result({"lines": lines}))
    assert drawn
    assert drawn.width > 800
    assert drawn.height > 600, "the list is longer than the image"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"colours": [{"name": "red", "share": 1}]},
        {"objects": []},
        {"objects": [{"label": "cat", "box": [0, 0, "wide", 1]}]},
        {"objects": [{"label": "cat", "box": [0.5, 0, 0.4, 1]}]},
        {"objects": [{"label": "cat", "box": [float("nan"), 0, 1, 1]}]},
        {"objects": [3, None], "count": 2},
    ],
)
def test_what_names_no_place_is_not_drawn(data: dict[str, Any]) -> None:
    assert annotate(grey(), result(data)) is None
