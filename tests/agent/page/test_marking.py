"""Marks that a person draws on a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llava_plus.agent.page.marking import Drawing, Kind, read_marks
from llava_plus.model.conversation import AssistantMessage, UserMessage
from llava_plus.skills.errors import BadInput
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from .served_page import Server, Tab, needs_browser

# Small, for browsers without a GPU compute every pixel of the canvas again and again.
WINDOW = {"width": 500, "height": 860}

Stroke = tuple[int, int, int, int]
"""From there to there, in pixels from the middle of the canvas."""


def draw(tab: Tab, picture: Path, *strokes: Stroke) -> None:
    """Put a picture on the canvas, and draw on it."""
    tab.find("#entry input[type=file]").set_input_files(picture)
    tab.find("#mark-box > button").click()
    canvas = tab.find("#canvas canvas").first
    # The canvas draws when it likes, and tells nobody but by the scale of the picture on it.
    scale, scales = tab.find("#canvas").get_by_role("button").filter(has_text="%"), [""]
    while len(scales) < 4 or len(set(scales[-3:])) > 1:
        tab.page.wait_for_timeout(500)
        scales.append(scale.inner_text())
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    mouse = tab.page.mouse
    for left, top, right, bottom in strokes:
        mouse.move(x + left, y + top)
        mouse.down()
        mouse.move(x + right, y + bottom, steps=6)
        mouse.up()
    expect(tab.find("#canvas").get_by_role("button", name="Undo")).to_be_enabled()


def asked_and_called(server: Server) -> tuple[UserMessage, AssistantMessage]:
    """The request with its marks, and the reply to it."""
    [turn] = server.turns()
    asked, called = turn.messages[0], turn.messages[1]
    assert isinstance(asked, UserMessage)
    assert isinstance(called, AssistantMessage)
    assert asked.marks is not None
    return asked, called


@needs_browser
@pytest.mark.parametrize("tab", [WINDOW], indirect=True)
def test_a_box_that_is_drawn_reaches_the_skill(tab: Tab, server: Server, picture: Path) -> None:
    draw(tab, picture, (-40, -30, 40, 30))
    tab.ask("Cut it out.")
    tab.done("So it is: Cut out")
    expect(tab.find("#canvas canvas").first).not_to_be_visible()
    asked, called = asked_and_called(server)
    assert asked.marks
    [box] = asked.marks.boxes
    assert called.skill_uses[0].arguments["box"] == list(box)
    assert ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) == pytest.approx((0.5, 0.5), abs=0.06)
    assert 0.03 < box.area < 0.3
    # The picture with the mark on it, and the part that was cut out.
    expect(tab.chat.locator("img")).to_have_count(2)
    tab.find(".sidebar .toggle-button").click()
    tab.find("#settings > button").click()
    marked = tab.chat.locator("img").first.get_attribute("src")
    tab.find("#drawings input").uncheck()
    expect(tab.chat.locator("img").first).not_to_have_attribute("src", marked or "")


@needs_browser
@pytest.mark.parametrize("tab", [WINDOW], indirect=True)
def test_two_boxes_on_one_picture_are_two_boxes_to_the_skill(
    tab: Tab, server: Server, picture: Path
) -> None:
    draw(tab, picture, (-110, -60, -50, -10), (50, 10, 110, 60))
    tab.ask("Cut both out.")
    tab.done("So it is: Cut out")
    asked, called = asked_and_called(server)
    assert asked.marks
    upper, lower = asked.marks.boxes
    assert upper.x1 < 0.5 < lower.x0
    assert upper.y1 < 0.5 < lower.y0
    assert [use.arguments["box"] for use in called.skill_uses] == [list(upper), list(lower)]
    # The picture with both marks on it, and the parts that were cut out.
    expect(tab.chat.locator("img")).to_have_count(3)


def drawn(*strokes: tuple[int, int, int, int], outline: bool = False) -> dict[str, Any]:
    """A canvas of 100 x 80 with rectangles drawn on it."""
    layer = Image.new("RGBA", (100, 80))
    pen = ImageDraw.Draw(layer)
    for corners in strokes:
        pen.rectangle(corners, fill=None if outline else "red", outline="red", width=2)
    return {"layers": [layer]}


def test_drawings_become_boxes_points_and_areas() -> None:
    canvas = drawn((20, 16, 59, 47), outline=True)
    assert read_marks(Drawing(canvas, Kind.BOX), (200, 160)).boxes == ((0.2, 0.2, 0.6, 0.6),)
    assert read_marks(Drawing(canvas, Kind.POINT), (200, 160)).points == ((0.4, 0.4),)
    [mask] = read_marks(Drawing(canvas, Kind.AREA), (200, 160)).masks
    expected = np.zeros((160, 200), dtype=bool)
    expected[32:96, 40:120] = True
    assert (mask.array() == expected).all()
    [two] = read_marks(Drawing(drawn((0, 0, 9, 9), (90, 70, 99, 79)), Kind.AREA), (100, 80)).masks
    assert two.area == pytest.approx(200 / 8000)
    nothing = read_marks(Drawing({"layers": [Image.new("RGBA", (100, 80))]}, Kind.BOX), (10, 10))
    assert nothing == read_marks(Drawing(None, Kind.AREA), (10, 10))
    assert not any((nothing.boxes, nothing.points, nothing.masks))


def test_marks_apart_from_each_other_are_several_and_strokes_of_one_box_are_one() -> None:
    canvas = drawn((60, 40, 79, 59), (10, 8, 29, 23), outline=True)
    assert read_marks(Drawing(canvas, Kind.BOX), (200, 160)).boxes == (
        (0.1, 0.1, 0.3, 0.3),
        (0.6, 0.5, 0.8, 0.75),
    )
    assert read_marks(Drawing(canvas, Kind.POINT), (200, 160)).points == ((0.2, 0.2), (0.7, 0.625))
    sides = drawn((20, 16, 20, 47), (22, 16, 57, 16), (59, 16, 59, 47), (22, 47, 57, 47))
    assert read_marks(Drawing(sides, Kind.BOX), (200, 160)).boxes == ((0.2, 0.2, 0.6, 0.6),)


def test_a_frame_around_everything_marks_nothing() -> None:
    with pytest.raises(BadInput, match="whole image"):
        read_marks(Drawing(drawn((0, 0, 99, 79), outline=True), Kind.AREA), (100, 80))
