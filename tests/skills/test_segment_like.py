"""Things that look like an example: OWLv2's matches as the library has them, and their outlines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends import Detection
from llava_plus.skills.backends.open_vocabulary import Owlv2Matcher
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.geometry import Corners, Mask
from llava_plus.skills.segment_like import LikeThings, SegmentLike
from PIL import Image
from transformers import Owlv2ForObjectDetection

from .tiny_models import save_owlv2

BOX = Corners(0.25, 0.5, 0.75, 1)
SQUARE = 30
"""Pixels of a square in `squares`: one of the 16 patches of the tiny model."""


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Owlv2Matcher:
    folder = tmp_path_factory.mktemp("owl")
    save_owlv2(folder)
    matcher = Owlv2Matcher(model=str(folder), threshold=0, overlap=1)
    matcher.load("cpu")
    return matcher


def save_colours(folder: Path, box: Sequence[float] = (0, 0, 0, 0)) -> None:
    """An OWLv2 that sees the mean colour of each patch, and gives the same box for all of them.

    A box is as large as a patch and lies around its lower right corner, the bias of the
    architecture, to which `box` (x, y, width, height) is added before the sigmoid. A score is
    above 0.5 where the cosine of two colours, projected at random, is above 0.98.
    """
    save_owlv2(folder)
    model = Owlv2ForObjectDetection.from_pretrained(folder)
    vision = model.owlv2.vision_model
    with torch.no_grad():
        vision.embeddings.position_embedding.weight.zero_()
        vision.embeddings.class_embedding.copy_(torch.tensor([1.0, -1.0] * 8))
        patches = vision.embeddings.patch_embedding.weight
        patches.copy_(torch.randn(16, 3, 1, 1).expand_as(patches) / 64)
        for block in vision.encoder.layers:
            for part in (block.self_attn.out_proj, block.mlp.fc2):
                torch.nn.init.zeros_(part.weight)
                torch.nn.init.zeros_(part.bias)
        torch.nn.init.eye_(model.class_head.dense0.weight)
        for head, value in ((model.class_head.logit_shift, [-0.98]),
                            (model.class_head.logit_scale, [199]),
                            (model.box_head.dense2, box)):  # fmt: skip
            torch.nn.init.zeros_(head.weight)
            head.bias.copy_(torch.tensor(value))
    model.save_pretrained(folder)


def squares(*rows: str) -> Image.Image:
    """An image of coloured squares, each row of it a text such as `red blue`."""
    colours = [row.split() for row in rows]
    image = Image.new("RGB", (SQUARE * len(colours[0]), SQUARE * len(rows)))
    for y, row in enumerate(colours):
        for x, colour in enumerate(row):
            image.paste(colour, (x * SQUARE, y * SQUARE, (x + 1) * SQUARE, (y + 1) * SQUARE))
    return image


@torch.inference_mode()
def test_the_matches_are_the_librarys(owl: Owlv2Matcher, astronaut: Image.Image) -> None:
    image = astronaut.crop((0, 0, 300, 200))
    found = owl.match(image, astronaut, BOX)
    inputs = owl._processor(
        images=image, query_images=astronaut.crop((128, 256, 384, 512)), return_tensors="pt"
    )
    outputs = owl._model.image_guided_detection(**inputs)
    (expected,) = owl._processor.post_process_image_guided_detection(
        outputs, threshold=0.0, nms_threshold=1.0, target_sizes=torch.tensor([[200, 300]])
    )
    best = max(thing.score for thing in found)
    assert [thing.score for thing in found] == sorted((it.score for it in found), reverse=True)
    wanted = 0
    for alpha, box in zip(expected["scores"].tolist(), expected["boxes"].tolist(), strict=True):
        corners = Corners.from_pixels(*box, 300, 200)
        wanted += corners.area > 0  # what lies in the padding alone is nowhere in the image
        assert corners.area == 0 or any(
            tuple(thing.box) == pytest.approx(tuple(corners), abs=2e-3)
            # The library gives scores from a tenth of the best one, 0, to the best one, 1.
            and (thing.score / best - 0.1) / 0.9 == pytest.approx(alpha, abs=5e-3)
            for thing in found
        )
    assert wanted == len(found) > 3


@pytest.mark.parametrize(("overlap", "count"), [(0.4, 2), (0.3, 1)])
def test_matches_that_repeat_a_surer_one_are_left_out(
    tmp_path: Path, overlap: float, count: int
) -> None:
    """Boxes of half the square, a quarter apart, share a third of what they cover."""
    save_colours(tmp_path, box=(0, 0, math.log(3), math.log(3)))
    scene = squares("lime lime lime lime", "lime red red lime", *["lime lime lime lime"] * 2)
    matcher = Owlv2Matcher(model=str(tmp_path), threshold=0.5, overlap=overlap)
    matcher.load("cpu")
    found = matcher.match(scene, squares("red"), Corners(0, 0, 1, 1))
    assert len(found) == count


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_what_has_the_colour_of_the_example_is_found_where_it_is(
    tmp_path: Path, colour: str
) -> None:
    save_colours(tmp_path)
    matcher = Owlv2Matcher(model=str(tmp_path), threshold=0.5)
    matcher.load("cpu")
    example = squares("lime lime", f"lime {colour}")
    scene = squares("lime red lime blue", "lime lime blue red")
    found = matcher.match(scene, example, Corners(0.5, 0.5, 1, 1))
    # A patch at column x and row y has its box around (x + 1, y + 1) quarters of the square.
    places = {"red": [(2, 1), (4, 2)], "blue": [(4, 1), (3, 2)]}[colour]
    wanted = [
        Corners.from_pixels(2 * x - 1, 2 * y - 1, 2 * x + 1, 2 * y + 1, 8, 4) for x, y in places
    ]
    assert sorted(thing.box for thing in found) == [
        pytest.approx(box, abs=2e-3) for box in sorted(wanted)
    ]


def test_the_skill_counts_and_outlines(tmp_path: Path, settings: Callable[..., None]) -> None:
    # The box of the second patch of the second row: around its middle, and larger than it.
    shift = math.log(0.375 / 0.625)
    save_colours(tmp_path, box=(shift, shift, 0.6, 0.6))
    settings("segment_like", model=tmp_path, threshold=0.5)
    skill = SegmentLike()
    skill.setup("cpu")
    scene = squares("lime lime lime lime", "lime red lime lime", "lime lime lime lime")
    images = {"img_1": scene, "img_2": squares("red lime")}
    call = {"image": "img_1", "reference": "img_2", "box": [0, 0, 0.5, 1]}
    output = skill.call(call, images=images)
    assert isinstance(output, LikeThings)
    first, second = output.text().splitlines()
    assert first == "Found 1 match."
    assert second == "match 1 [0.19, 0.25, 0.56, 0.75], 8 % of the image"
    ((label, mask),) = output.masks()
    assert label == "match 1"
    inside = np.zeros((90, 120), bool)
    inside[30:60, 30:60] = True
    assert mask.overlap(Mask.from_array(inside)) > 0.9
    (row,) = output.model_dump(mode="json")["objects"]
    assert set(row) == {"label", "box", "score", "share"}
    nothing = skill.call(call | {"image": "img_2", "reference": "img_1"}, images=images)
    assert nothing.text().startswith("Found no match")


class Matches:
    """A `Matcher` with so many matches, and an `Outliner` that outlines large ones."""

    def __init__(self, count: int) -> None:
        self.count = count

    def load(self, device: str) -> None:
        """Nothing to load."""

    def match(self, image: Image.Image, reference: Image.Image, box: Corners) -> list[Detection]:
        boxes = [Corners(0, 0, 1, 0.5 if number % 2 else 1) for number in range(self.count)]
        return [Detection(label="match", box=box, score=0.9) for box in boxes]

    def outline(self, image: Image.Image, place: Corners) -> Mask | None:
        return Mask.from_array(np.ones((9, 9), bool)) if place.area == 1 else None


@pytest.mark.parametrize(
    ("count", "lines"),
    [
        (0, ["Found no match."]),
        (1, ["Found 1 match.", "match 1 [0.0, 0.0, 1.0, 1.0], 100 % of the image"]),
        (2, ["Found 2 matches, outlined 1.", "match 1 [0.0, 0.0, 1.0, 1.0], 100 % of the image",
             "match 2 [0.0, 0.0, 1.0, 0.5], not outlined"]),
    ],
)  # fmt: skip
def test_it_tells_which_are_outlined(
    monkeypatch: pytest.MonkeyPatch, count: int, lines: list[str]
) -> None:
    assert matched(monkeypatch, count).text().splitlines() == lines


def test_of_many_the_surest_are_outlined(monkeypatch: pytest.MonkeyPatch) -> None:
    output = matched(monkeypatch, 25)
    assert len(list(output.masks())) == 10
    assert output.text().splitlines()[0] == "Found 25 matches, outlined 10."
    assert output.text().splitlines()[-1] == "and 5 more"


def matched(monkeypatch: pytest.MonkeyPatch, count: int) -> LikeThings:
    monkeypatch.setattr(
        "llava_plus.skills.segment_like.create_backend", lambda skill: Matches(count)
    )
    skill = SegmentLike()
    skill.setup("cpu")
    call = {"image": "img_1", "reference": "img_1", "box": [0, 0, 1, 1]}
    output = skill.call(call, images={"img_1": Image.new("RGB", (9, 9))})
    assert isinstance(output, LikeThings)
    return output


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"box": None}, "box"),
        ({"box": [0.5, 0.5, 0.5, 0.6]}, "is empty"),
        ({"box": [0, 0, 2, 1]}, "less than or equal to 1"),
        ({"box": [0, 0, float("nan"), 1]}, "box"),
        ({"reference": "img_9"}, "there is no image 'img_9'"),
        ({"reference": None}, "reference"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(changed: dict[str, object], told: str) -> None:
    call = {"image": "img_1", "reference": "img_1", "box": [0, 0, 1, 1], **changed}
    with pytest.raises(BadSkillUse, match=told):
        SegmentLike().call(call, images={"img_1": Image.new("RGB", (9, 9))})


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (2, 300)])
def test_thin_and_tiny_examples_can_be_looked_for(
    owl: Owlv2Matcher, picture: Image.Image, size: tuple[int, int]
) -> None:
    thin = Image.new("RGB", size, "white")
    assert owl.match(picture, thin, Corners(0, 0, 0.1, 0.1))
    owl.match(thin, picture, Corners(0.999, 0.999, 1, 1))


def test_what_cannot_be_loaded_is_named(settings: Callable[..., None], tmp_path: Path) -> None:
    settings("segment_like", model=tmp_path / "none")
    with pytest.raises(BadConfiguration, match="none' cannot be loaded"):
        SegmentLike().setup("cpu")
