"""Charts show the numbers that were given, and text as it was written."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from llava_plus.skills.canvas import COLOURS
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.plot import Plot
from PIL import Image


@pytest.fixture(scope="module")
def plot() -> Plot:
    skill = Plot()
    skill.setup("cpu")
    return skill


def chart(plot: Plot, kind: str, *values: list[float], **rest: object) -> tuple[str, np.ndarray]:
    series = rest.pop("series", [{"values": numbers} for numbers in values])
    output = plot.call({"kind": kind, "series": series, **rest})
    ((_, picture),) = output.images()
    assert isinstance(picture, Image.Image)
    assert picture.size == (1200, 750)
    return output.text(), np.asarray(picture).astype(int)


def extent(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has a colour."""
    rows, columns = np.nonzero((np.abs(picture - colour) < 3).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_bars_are_as_high_as_their_values(plot: Plot) -> None:
    text, picture = chart(plot, "bar", [1, 3], x=["few", "many"])
    assert text == "Drew a bar chart: 2 values from 1 to 3."
    left, top, right, bottom = extent(picture, COLOURS[0])
    few = extent(picture[:, : (left + right) // 2], COLOURS[0])
    assert (bottom - few[1]) / (bottom - top) == pytest.approx(1 / 3, abs=0.01)


def test_a_line_goes_through_its_points(plot: Plot) -> None:
    text, picture = chart(plot, "line", [5, 1, 5], x=[0, 10, 40])
    assert text == "Drew a line chart: 3 values from 1 to 5."
    left, _, right, bottom = extent(picture, COLOURS[0])
    lowest = np.nonzero((np.abs(picture[bottom - 3] - COLOURS[0]) < 3).all(axis=1))[0].mean()
    assert (lowest - left) / (right - left) == pytest.approx(0.25, abs=0.01)


def test_slices_have_their_share_of_the_pie(plot: Plot) -> None:
    text, picture = chart(plot, "pie", [60, 30, 10], x=["a", "b", "c"])
    assert text == "Drew a pie chart: 3 values from 10 to 60."
    picture = picture[:, :1000]  # without the key
    pixels = [(np.abs(picture - colour) < 3).all(axis=2).sum() for colour in COLOURS[:3]]
    assert [count / sum(pixels) for count in pixels] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_a_histogram_counts(plot: Plot) -> None:
    values = [0.0] * 30 + [10.0] * 10
    text, picture = chart(plot, "histogram", values)
    assert text == "Drew a histogram: 40 values from 0 to 10."
    left, top, right, bottom = extent(picture, COLOURS[0])
    high = extent(picture[:, (left + right) // 2 :], COLOURS[0])
    assert (bottom - high[1]) / (bottom - top) == pytest.approx(1 / 3, abs=0.02)


def test_several_series_are_named_and_have_colours(plot: Plot) -> None:
    series = [{"name": name, "values": [1, 2, 3]} for name in ("Oslo", "_Rome", "$x_1$")]
    for kind in ("line", "bar", "scatter"):
        text, picture = chart(plot, kind, series=series, x=[1, 2, 3])
        assert "of Oslo, _Rome and $x_1$: 9 values from 1 to 3." in text
        key = picture[690:]
        for colour in COLOURS[: 3 if kind != "scatter" else 0]:
            assert (np.abs(key - colour) < 3).all(axis=2).any(), "it is in the key"


@pytest.mark.parametrize(
    "title", ["$5 and $6", r"\frac{1}{0}", "$\\undefined$", "line\nbreak", "%s"]
)
def test_text_is_shown_as_it_is(plot: Plot, title: str) -> None:
    _, plain = chart(plot, "line", [1, 2])
    _, picture = chart(plot, "line", [1, 2], title=title, x_label=title, y_label=title)
    assert (plain != picture).any()


@pytest.mark.parametrize("letter", ["\x00", "\ue000", "\U000e0001"])
def test_a_letter_that_no_font_has_is_drawn_all_the_same(plot: Plot, letter: str) -> None:
    chart(plot, "bar", [1, 3], x=["few", f"ma{letter}ny"], title=letter)


def test_a_dollar_sign_is_one(plot: Plot) -> None:
    pictures = [chart(plot, "line", [1, 2], title=title)[1] for title in ("$5$", "5")]
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize("kind", ["line", "bar", "histogram"])
@pytest.mark.parametrize(
    "values", [[7], [0, 0], [1e30, -1e30], [1e30] * 3, [1e-300, 2e-300], [1e15, 1e15 + 0.25]]
)
def test_extremes_can_be_drawn(plot: Plot, kind: str, values: list[float]) -> None:
    chart(plot, kind, values)


def test_many_long_names_fit(plot: Plot) -> None:
    chart(plot, "bar", [1] * 200, x=["W" * 100] * 200, title="W" * 200, y_label="W" * 200)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"kind": "radar", "series": [{"values": [1]}]}, "kind"),
        ({"kind": "line", "series": []}, "at least 1"),
        ({"kind": "line", "series": [{"values": [1]}] * 11}, "at most 10"),
        ({"kind": "line", "series": [{"values": []}]}, "at least 1"),
        ({"kind": "line", "series": [{"values": [1] * 1001}]}, "at most 1000"),
        ({"kind": "line", "series": [{"values": [float("nan")]}]}, "finite"),
        ({"kind": "line", "series": [{"values": [1e31]}]}, "too large to draw"),
        ({"kind": "line", "series": [{"values": [1, 2]}, {"values": [1]}]}, "there are 1 and 2"),
        ({"kind": "bar", "series": [{"values": [1, 2]}], "x": ["a"]}, "there are 1 and 2"),
        ({"kind": "scatter", "series": [{"values": [1]}]}, "a number in x"),
        ({"kind": "scatter", "series": [{"values": [1]}], "x": ["a"]}, "a number in x"),
        ({"kind": "histogram", "series": [{"values": [1]}], "x": [1]}, "leave x out"),
        ({"kind": "pie", "series": [{"values": [1]}] * 2}, "one series"),
        ({"kind": "pie", "series": [{"values": [1] * 21}]}, "up to 20"),
        ({"kind": "pie", "series": [{"values": [1, -1]}]}, "0 or more"),
        ({"kind": "pie", "series": [{"values": [0, 0]}]}, "not all of them 0"),
        ({"kind": "line", "series": [{"values": [1]}], "title": "x" * 201}, "at most 200"),
    ],
)
def test_what_makes_no_chart_is_told(plot: Plot, call: dict[str, object], told: str) -> None:
    with pytest.raises(BadSkillUse, match=told):
        plot.call(call)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadConfiguration, match=r"llava-plus\[plot\]"):
        Plot().setup("cpu")
