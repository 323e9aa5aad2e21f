"""Outlining with MobileSAM and SAM 2 through ultralytics, on random weights in its file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends.ultralytics_sam import UltralyticsSamOutliner
from llava_plus.skills.geometry import Corners, Position
from PIL import Image

from ..tiny_models import decide

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


def test_everything_is_what_the_library_finds(
    file: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    from ultralytics import SAM
    from ultralytics.models.sam.build import sam_model_map

    model = sam_model_map[file.name]()
    decide(model.sam_mask_decoder if "sam2" in file.name else model.mask_decoder)
    numbers, file = model.state_dict(), tmp_path / file.name
    torch.save({"model": numbers} if "sam2" in file.name else numbers, file)
    image = astronaut.crop((0, 0, 120, 80))
    options = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.2, "box_nms_thresh": 1}
    outliner = UltralyticsSamOutliner(model=str(file), points_per_side=2, **options)
    outliner.load("cpu")
    before = outliner.outline(image, BOX)
    found = outliner.everything(image)
    library = SAM(file)
    library.predict(image, bboxes=[24, 8, 84, 72], conf=0.0, iou=1.0, verbose=False)
    (result,) = library.predictor(
        image, points_stride=2, conf_thres=0.5, stability_score_thresh=0.2, stability_score_offset=1
    )
    assert len(found) == len(result) > 1
    for mask, expected in zip(found, result.masks.data.numpy(), strict=True):
        assert np.array_equal(mask.array(), expected.astype(bool))
    assert outliner.outline(image, BOX) == before
