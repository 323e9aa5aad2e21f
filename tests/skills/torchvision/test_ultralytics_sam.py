"""Outlining with MobileSAM and SAM 2 through ultralytics, on random weights in its file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends.ultralytics_sam import UltralyticsSamOutliner
from llava_plus.skills.geometry import Corners, Position
from PIL import Image

BOX, POINT = Corners(0.2, 0.1, 0.7, 0.9), Position(0.4, 0.6)


@pytest.fixture(scope="module", params=["mobile_sam.pt", "sam2_t.pt"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ultralytics.models.sam.build import sam_model_map

    path = tmp_path_factory.mktemp("sam") / request.param
    torch.manual_seed(0)
    numbers = sam_model_map[request.param]().state_dict()
    # The library drops proposals that are rated below nothing.
    (rates,) = (name for name in numbers if name.endswith("iou_prediction_head.layers.2.bias"))
    numbers[rates] += 1
    torch.save({"model": numbers} if "sam2" in request.param else numbers, path)
    return path


def test_the_mask_is_the_librarys_best(file: Path, picture: Image.Image) -> None:
    from ultralytics import SAM

    outliner = UltralyticsSamOutliner(model=str(file))
    outliner.load("cpu")
    by_box, by_point = outliner.outline(picture, BOX), outliner.outline(picture, POINT)
    assert by_box is not None
    assert by_box.size == (80, 120)
    levels = outliner.levels(picture, POINT)
    assert 1 <= len(levels) <= 3
    assert by_point == levels[0].mask
    (result,) = SAM(file).predict(picture, bboxes=[24, 8, 84, 72], conf=0.0, verbose=False)
    expected = result.masks.data[int(result.boxes.conf.argmax())].numpy()
    assert np.array_equal(by_box.array(), expected.astype(bool))
