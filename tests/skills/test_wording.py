"""The sentences are exactly those that a model is trained to read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.skills import Box, Corners
from llava_plus.skills.wording import (
    adjusted_text,
    box_text,
    counted,
    detections_text,
    joined,
    ocr_text,
    plural,
    segments_text,
    singular,
)
from llava_plus.training_data.bank import Bank
from pydantic import TypeAdapter

HERE = Corners(0.12, 0.3, 0.25, 0.51)
fractions = st.floats(0, 1)


@st.composite
def corners(draw: st.DrawFn) -> Corners:
    x0, x1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    return Corners(x0, y0, x1, y1)


def test_detections_count_first_and_then_say_where():
    objects = [("face", HERE), ("face", HERE), ("person", Corners(0.0, 0.0, 1.0, 1.0))]
    assert detections_text(objects) == (
        "Found 2 faces and 1 person.\n"
        "face [0.12, 0.3, 0.25, 0.51]\n"
        "face [0.12, 0.3, 0.25, 0.51]\n"
        "person [0.0, 0.0, 1.0, 1.0]"
    )


def test_detections_name_what_was_not_found():
    assert detections_text([], ["dog", "cat"]) == "Found no dog and no cat."
    assert detections_text([("dog", HERE)], ["cat", "dog"]).startswith("Found no cat and 1 dog.\n")


def test_detections_name_what_was_not_looked_for():
    text = detections_text([], ["face", "keys"], unknown=["keys"])
    assert text == "Found no face. Not looked for (unknown to this detector): keys."


def test_detections_show_twelve_and_count_the_rest():
    lines = detections_text([("bird", HERE)] * 17).splitlines()
    assert lines[0] == "Found 17 birds."
    assert len(lines) == 14
    assert lines[-1] == "and 5 more"


@given(corners())
def test_a_box_as_text_can_be_passed_on_as_a_box(box: Corners):
    read = TypeAdapter(Box).validate_python(json.loads(box_text(box)))
    assert all(abs(one - other) <= 0.0151 for one, other in zip(read, box, strict=True))


def test_ocr_gives_the_lines_as_they_stand():
    assert ocr_text(["INVOICE", "Total: $4.50", "x"]) == "Read 3 lines:\nINVOICE\nTotal: $4.50\nx"
    assert ocr_text(["STOP"]) == "Read 1 line:\nSTOP"
    assert ocr_text([]) == "Found no text."


def test_ocr_shows_forty_lines_and_counts_the_rest():
    lines = ocr_text([str(number) for number in range(45)]).splitlines()
    assert len(lines) == 42
    assert lines[-1] == "and 5 more lines"


def test_segments_give_each_share():
    text = segments_text([("dog", 0.123), ("cat", 0.05)])
    assert text == "Outlined 2 regions: dog (12 % of the image), cat (5 %)."
    assert segments_text([("fly", 0.001)]) == "Outlined 1 region: fly (under 1 % of the image)."
    assert segments_text([], ["dog"]) == "Found no dog to outline."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (adjusted_text("blur", 2), "Blurred 2 regions."),
        (adjusted_text("blur"), "Blurred the image."),
        (adjusted_text("rotate"), "Rotated the image by 90 degrees."),
        (adjusted_text("rotate", degrees=-2.5), "Rotated the image by -2.5 degrees."),
        (adjusted_text("rotate", degrees=1), "Rotated the image by 1 degree."),
        (adjusted_text("grayscale"), "Converted the image to grayscale."),
        (adjusted_text("crop", 1, size=(640, 480)), "Cropped the image to 640 x 480."),
    ],
)
def test_adjusted(text: str, expected: str):
    assert text == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ([*"abc"], "a, b and c")],
)
def test_joined(parts: list[str], expected: str):
    assert joined(parts) == expected


def test_plurals_of_all_nouns_that_the_training_data_uses():
    # "Glasses" alone are for the eyes; nobody can tell them from those for wine.
    pairs = [pair for pair in Bank().nouns if pair != ("glass", "glasses")]
    assert len(pairs) > 1000
    wrong = [pair for pair in pairs if (singular(pair[1]), plural(pair[0])) != pair]
    assert not wrong


@given(st.sampled_from(Bank().nouns), st.integers(2, 99))
def test_either_form_of_a_noun_may_be_counted(forms: tuple[str, str], count: int):
    one, many = forms
    assert counted(count, one) == counted(count, many) == f"{count} {many}"


@given(st.text(max_size=40))
def test_any_text_may_be_counted(noun: str):
    assert plural(plural(noun)) is not None
    assert counted(0, noun) == f"no {noun}"


def test_the_word_before_a_preposition_takes_the_plural():
    assert counted(2, "cup of coffee") == "2 cups of coffee"
    assert counted(1, "men in suits") == "1 man in suits"
