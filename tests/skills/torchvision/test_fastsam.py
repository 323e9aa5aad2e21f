"""Outlining with FastSAM through ultralytics, on random weights in its file format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from llava_plus.skills.backends.fastsam import FastSamOutliner
from llava_plus.skills.geometry import Corners, Position
from PIL import Image

from .random_yolo import randomise

LEAST = 0.5
LONGEST = 128


@pytest.fixture(scope="module")
def image(astronaut: Image.Image) -> Image.Image:
    return astronaut.crop((0, 0, 120, 80))


@pytest.fixture(scope="module")
def fastsam(tmp_path_factory: pytest.TempPathFactory) -> FastSamOutliner:
    from ultralytics import YOLO

    torch.manual_seed(0)
    model = YOLO("yolov8n-seg.yaml", task="segment")
    randomise(model, sure=-1)
    path = tmp_path_factory.mktemp("fastsam") / "FastSAM-s.pt"
    model.save(path)
    outliner = FastSamOutliner(model=str(path), longest=LONGEST, threshold=LEAST)
    outliner.load("cpu")
    return outliner


def librarys(outliner: FastSamOutliner, image: Image.Image, **place: Any) -> Any:
    from ultralytics import FastSAM

    asked = {"imgsz": LONGEST, "conf": LEAST, "iou": 0.9, "retina_masks": True, "verbose": False}
    (result,) = FastSAM(outliner.model).predict(image, **asked, **place)
    return result


def test_the_mask_for_a_box_is_the_librarys(fastsam: FastSamOutliner, image: Image.Image) -> None:
    mask = fastsam.outline(image, Corners(0.2, 0.1, 0.7, 0.9))
    (expected,) = librarys(fastsam, image, bboxes=[24, 8, 84, 72]).masks.data.numpy()
    assert mask is not None
    assert np.array_equal(mask.array(), expected.astype(bool))


def test_a_point_means_everything_that_has_it(fastsam: FastSamOutliner, image: Image.Image) -> None:
    """The surest is its outline, and each of them a level."""
    levels = fastsam.levels(image, Position(0.4, 0.6))
    result = librarys(fastsam, image, points=[[48, 48]])
    assert len(levels) == len(result) > 1
    assert [level.score for level in levels] == pytest.approx(result.boxes.conf.tolist(), abs=1e-3)
    surest = result.masks.data[int(result.boxes.conf.argmax())].numpy().astype(bool)
    mask = fastsam.outline(image, Position(0.4, 0.6))
    assert mask is not None
    assert np.array_equal(mask.array(), surest)


def test_large_images_are_made_smaller_and_their_masks_larger(
    fastsam: FastSamOutliner, image: Image.Image
) -> None:
    large = image.resize((480, 320))
    place = Corners(0.2, 0.1, 0.7, 0.9)
    mask = fastsam.outline(large, place)
    small = fastsam.outline(large.resize((128, 85)), place)
    assert mask is not None
    assert small is not None
    expected = Image.fromarray(small.array()).resize(large.size, Image.Resampling.NEAREST)
    assert np.array_equal(mask.array(), np.asarray(expected))


def test_where_nothing_is_there_is_no_mask(fastsam: FastSamOutliner, image: Image.Image) -> None:
    strict = FastSamOutliner(model=fastsam.model, longest=LONGEST, threshold=1)
    strict.load("cpu")
    assert strict.outline(image, Corners(0.2, 0.1, 0.7, 0.9)) is None
    assert strict.outline(image, Position(1, 1)) is None
    assert strict.levels(image, Position(0.4, 0.6)) == []


def test_everything_is_all_that_the_library_finds(
    fastsam: FastSamOutliner, image: Image.Image
) -> None:
    result = librarys(fastsam, image)
    found = fastsam.everything(image)
    assert len(found) == len(result) > 1
    for mask, expected in zip(found, result.masks.data.numpy(), strict=True):
        assert np.array_equal(mask.array(), expected.astype(bool))
