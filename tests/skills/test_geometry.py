"""Masks keep every pixel, and what is not a mask is refused before C code reads it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from llava_plus.skills import Box, Corners, Mask, Point, Position
from pycocotools import mask as coco
from pydantic import TypeAdapter, ValidationError

pixels = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(pixels)
def test_a_mask_keeps_every_pixel(array: np.ndarray):
    mask = Mask.from_array(array)
    assert (mask.array() == array).all()
    assert mask.area == pytest.approx(array.mean())
    assert Mask.model_validate_json(mask.model_dump_json()) == mask


@given(pixels)
def test_a_mask_is_what_pycocotools_writes(array: np.ndarray):
    mask = Mask.from_array(array)
    theirs = coco.encode(np.asfortranarray(array, np.uint8))
    assert mask.counts == theirs["counts"].decode()
    assert mask.size == tuple(theirs["size"])
    assert mask.area == pytest.approx(int(coco.area(theirs)) / array.size)


@given(pixels)
def test_the_box_of_a_mask_is_the_smallest_around_it(array: np.ndarray):
    box = Mask.from_array(array).box
    rows, columns = np.nonzero(array)
    if not len(rows):
        assert box is None
        return
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    height, width = array.shape
    sides = (width, height, width, height)
    wanted = [edge / side for edge, side in zip(edges, sides, strict=True)]
    assert box == pytest.approx(wanted, abs=0.00051)


@given(st.text(min_size=1, max_size=30), st.integers(1, 50), st.integers(1, 50))
def test_runs_fill_the_mask_exactly_or_are_refused(counts: str, height: int, width: int):
    try:
        mask = Mask(size=(height, width), counts=counts)
    except ValidationError:
        return
    assert mask.array().shape == (height, width)


@pytest.mark.parametrize("size", [(4, 5), (5, 3), (0, 4), (70_000, 4)])
def test_a_mask_of_another_size_is_refused(size: tuple[int, int]):
    counts = Mask.from_array(np.eye(4, dtype=bool)).counts
    with pytest.raises(ValidationError):
        Mask(size=size, counts=counts)


@pytest.mark.parametrize(
    "box",
    [
        [0.5, 0.1, 0.5, 0.9],
        [0.9, 0.1, 0.1, 0.9],
        [-0.1, 0, 1, 1],
        [0, 0, 1.01, 1],
        [0, 0, 1],
        [0, 0, 1, 1, 1],
        [0, 0, float("nan"), 1],
        "0, 0, 1, 1",
    ],
)
def test_what_is_no_box_is_refused(box: object):
    with pytest.raises(ValidationError):
        TypeAdapter(Box).validate_python(box)


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_a_box_is_at_least_a_pixel_inside_the_image(width: int, height: int, data: st.DataObject):
    edges = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted)
    (x0, x1), (y0, y1) = data.draw(edges), data.draw(edges)
    left, top, right, bottom = Corners(x0, y0, x1, y1).pixels(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 3000), st.integers(1, 3000))
def test_a_point_is_a_pixel_of_the_image(x: float, y: float, width: int, height: int):
    column, row = TypeAdapter(Point).validate_python([x, y]).pixels(width, height)
    assert 0 <= column < width
    assert 0 <= row < height


def test_a_point_needs_two_fractions():
    assert TypeAdapter(Point).validate_python([0.5, 1]) == Position(0.5, 1.0)
    with pytest.raises(ValidationError):
        TypeAdapter(Point).validate_python([0.5])
