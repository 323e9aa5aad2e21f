"""Several masks at one point: SAM's proposals as the library has them, told by size and score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends import Level
from llava_plus.skills.backends.sam import SamOutliner
from llava_plus.skills.errors import BadConfiguration, BadSkillUse, SkillFailed
from llava_plus.skills.geometry import Mask, Position
from llava_plus.skills.segment_levels import Levels, SegmentLevels
from PIL import Image
from transformers import SamModel

from .tiny_models import save_sam

CALL = {"image": "img_1", "point": [0.3, 0.5]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Segment Anything with random weights."""
    save_sam(tmp_path / "sam")
    return tmp_path / "sam"


def made(output: object) -> list[tuple[str, Mask]]:
    assert isinstance(output, Levels)
    return list(output.masks())


@torch.inference_mode()
def test_the_levels_are_the_librarys_three_masks(folder: Path, picture: Image.Image) -> None:
    outliner = SamOutliner(model=str(folder))
    outliner.load("cpu")
    levels = outliner.levels(picture, Position(0.3, 0.5))

    inputs = outliner._processor(picture, input_points=[[[36.0, 40.0]]], return_tensors="pt")
    outputs = outliner._model(
        **{name: value.float() for name, value in inputs.items() if "sizes" not in name}
    )
    (masks,) = outliner._processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    scores = outputs.iou_scores[0, 0]
    assert len(levels) == len(scores) == 3
    for level, index in zip(levels, scores.argsort(descending=True).tolist(), strict=True):
        assert level.score == pytest.approx(max(0, float(scores[index])), abs=1e-3)
        assert np.array_equal(level.mask.array(), masks[0, index].numpy())


def test_a_model_that_is_sure_of_all_and_nothing_outlines_all_once(
    folder: Path, picture: Image.Image, settings: Callable[..., None]
) -> None:
    """The heads of the three proposals say: everything, everything, and nothing at all."""
    model = SamModel.from_pretrained(folder)
    decoder = model.mask_decoder
    with torch.no_grad():
        torch.nn.init.zeros_(decoder.upscale_conv2.weight)
        torch.nn.init.ones_(decoder.upscale_conv2.bias)
        heads = [mlp.proj_out for mlp in decoder.output_hypernetworks_mlps]
        for head, value in zip(heads, (0, 1, 1, -1), strict=True):  # the first is for boxes
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.constant_(head.bias, value)
        torch.nn.init.zeros_(decoder.iou_prediction_head.proj_out.weight)
        decoder.iou_prediction_head.proj_out.bias.copy_(torch.tensor([0, 0.7, 0.9, 0.8]))
    model.save_pretrained(folder)
    settings("segment_levels", model=folder)
    skill = SegmentLevels()
    skill.setup("cpu")
    output = skill.call(CALL, images={"img_1": picture})
    assert output.text() == "Outlined 1 level: only one (100 % of the image, score 0.90)."
    ((label, mask),) = made(output)
    assert label == "only one"
    assert mask.size == (80, 120)
    assert mask.area == 1


class Bars:
    """A `LevelOutliner` with bars at the left: how many of 100 columns, and the score."""

    def __init__(self, *bars: tuple[int, float]) -> None:
        self.bars = bars

    def load(self, device: str) -> None:
        """Nothing to load."""

    def levels(self, image: Image.Image, place: Position) -> Sequence[Level]:
        columns = np.arange(100)[None].repeat(10, axis=0)
        return [Level(mask=Mask.from_array(columns < bar), score=score) for bar, score in self.bars]


@pytest.mark.parametrize(
    ("bars", "told"),
    [
        (
            [(20, 0.9), (60, 0.8), (5, 0.7)],
            "Outlined 3 levels, the surest first: middle (20 % of the image, score 0.90), "
            "largest (60 %, score 0.80), smallest (5 %, score 0.70).",
        ),
        (  # 98 of 100 columns are shared, which is more than 0.95
            [(98, 0.7), (100, 0.6), (30, 0.5)],
            "Outlined 2 levels, the surest first: largest (98 % of the image, score 0.70), "
            "smallest (30 %, score 0.50).",
        ),
        ([(95, 0.7), (100, 0.6)], "Outlined 2 levels, the surest first: smallest (95 % of the "
         "image, score 0.70), largest (100 %, score 0.60)."),
        ([(50, 1.0)], "Outlined 1 level: only one (50 % of the image, score 1.00)."),
    ],
)  # fmt: skip
def test_levels_are_told_by_size_and_the_surest_first(
    monkeypatch: pytest.MonkeyPatch, bars: list[tuple[int, float]], told: str
) -> None:
    output = skill_on(monkeypatch, *bars).call(CALL, images={"img_1": Image.new("RGB", (100, 10))})
    assert output.text() == told
    words = told.partition(": ")[2]
    assert [label for label, _ in made(output)] == [
        part.split(" (")[0] for part in words.split("), ")
    ]
    (row, *_) = output.model_dump(mode="json")["regions"]
    assert set(row) == {"label", "share", "score"}


def test_where_nothing_stands_out_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    skill = skill_on(monkeypatch)
    with pytest.raises(SkillFailed, match="stands out"):
        skill.call(CALL, images={"img_1": Image.new("RGB", (9, 9))})


def skill_on(monkeypatch: pytest.MonkeyPatch, *bars: tuple[int, float]) -> SegmentLevels:
    monkeypatch.setattr("llava_plus.skills.backed.create_backend", lambda skill: Bars(*bars))
    skill = SegmentLevels()
    skill.setup("cpu")
    return skill


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"point": [0.5]}, "point"),
        ({"point": [0.5, 1.01]}, "less than or equal to 1"),
        ({"point": [0.5, float("nan")]}, "point"),
        ({"point": [[0.5, 0.5]]}, "point"),
        ({"image": "img_2"}, "there is no image 'img_2'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(BadSkillUse, match=told):
        SegmentLevels().call(CALL | changed, images={"img_1": Image.new("RGB", (9, 9))})


def test_grabcut_has_no_levels(settings: Callable[..., None]) -> None:
    settings("segment_levels", backend="grabcut")
    with pytest.raises(BadConfiguration, match=r"called 'grabcut'; .*known: sam"):
        SegmentLevels().setup("cpu")
