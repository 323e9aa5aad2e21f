"""Outlining with Meta's own library, on a Segment Anything of one block in their file format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends.segment_anything import SegmentAnythingOutliner
from llava_plus.skills.errors import BadConfiguration
from llava_plus.skills.geometry import Corners, Position
from llava_plus.skills.segment import Segment
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.build_sam import _build_sam
from segment_anything.modeling import Sam

from ..tiny_models import decide

BOX, POINT = Corners(0.2, 0.1, 0.7, 0.9), Position(0.4, 0.6)


def _one_block() -> Sam:
    """As wide as ViT-B, but with one block instead of twelve."""
    torch.manual_seed(0)
    return _build_sam(768, 1, 12, [])


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sam_model_registry, "vit_b", _one_block)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "one_block.pth"
    torch.save(_one_block().state_dict(), path)
    return path


@pytest.mark.parametrize("place", [BOX, POINT])
def test_the_mask_is_the_librarys_best(
    file: Path, picture: Image.Image, place: Corners | Position
) -> None:
    outliner = SegmentAnythingOutliner(model=str(file))
    outliner.load("cpu")
    mask = outliner.outline(picture, place)

    predictor = SamPredictor(_one_block())
    predictor.set_image(np.asarray(picture))
    if isinstance(place, Corners):
        masks, scores, _ = predictor.predict(box=np.array([24, 8, 84, 72]), multimask_output=False)
    else:
        asked = {"point_coords": np.array([[48, 48]]), "point_labels": np.array([1])}
        masks, scores, _ = predictor.predict(**asked, multimask_output=True)
    expected = masks[scores.argmax()]
    assert mask is not None
    assert mask.size == (80, 120)
    assert np.array_equal(mask.array(), expected)
    if isinstance(place, Position):
        levels = outliner.levels(picture, place)
        assert len(levels) == 3
        for level, index in zip(levels, scores.argsort()[::-1], strict=True):
            assert np.array_equal(level.mask.array(), masks[index])


def test_the_skill_runs_on_it(
    file: Path, picture: Image.Image, settings: Callable[..., None]
) -> None:
    settings("segment", backend="segment-anything", model=file)
    skill = Segment()
    skill.setup("cpu")
    output = skill.call({"image": "img_1", "boxes": [list(BOX)]}, images={"img_1": picture})
    assert output.text().startswith("Outlined 1 region")


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for name, told in (("other", "vit_b, vit_l, vit_h"), ("broken", "cannot be read")):
        with pytest.raises(BadConfiguration, match=told):
            SegmentAnythingOutliner(model=str(tmp_path / f"{name}.pth")).load("cpu")
    with pytest.raises(BadConfiguration, match="there is no file"):
        SegmentAnythingOutliner(model=str(tmp_path / "missing.pth")).load("cpu")


def test_everything_is_what_the_librarys_generator_finds(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    image = astronaut.crop((0, 0, 120, 80))
    model = _one_block()
    decide(model.mask_decoder)
    torch.save(model.state_dict(), tmp_path / "decided.pth")
    options = {
        "points_per_side": 3, "pred_iou_thresh": 0.01, "stability_score_thresh": 0.5,
        "box_nms_thresh": 1.0,
    }  # fmt: skip
    outliner = SegmentAnythingOutliner(model=str(tmp_path / "decided.pth"), **options)
    outliner.load("cpu")
    found = outliner.everything(image)
    expected = SamAutomaticMaskGenerator(model.eval(), **options).generate(np.asarray(image))
    assert len(found) == len(expected) > 1
    for mask, record in zip(found, expected, strict=True):
        assert np.array_equal(mask.array(), record["segmentation"])
    options |= {"pred_iou_thresh": 1, "stability_score_thresh": 1}
    strict = SegmentAnythingOutliner(model=outliner.model, **options)
    strict.load("cpu")
    assert strict.everything(image) == []
