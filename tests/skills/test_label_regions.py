"""Regions on tiny models: things one by one, stuff as a whole, as the library divides the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills import Corners, Mask
from llava_plus.skills.backends import LabelledRegion
from llava_plus.skills.backends.panoptic_labelling import Mask2FormerLabeller, OneFormerLabeller
from llava_plus.skills.backends.panoptic_labels import plain_label, stuff_among
from llava_plus.skills.backends.region_labelling import SegformerLabeller
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.label_regions import LabelRegions, RegionMap
from llava_plus.skills.settings import create_backend
from PIL import Image
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerForUniversalSegmentationOutput,
)

from .tiny_labellers import LABELS, save_mask2former, save_oneformer, save_segformer

SIDE = 384
"""The side to which Mask2Former's masks are always scaled: a test's masks have it as well."""

Panoptic = Mask2FormerLabeller | OneFormerLabeller


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labellers")
    save_mask2former(folder / "mask2former")
    save_oneformer(folder / "oneformer")
    save_segformer(folder / "segformer")
    return folder


@pytest.fixture(params=["mask2former", "oneformer"])
def panoptic(
    folder: Path, request: pytest.FixtureRequest, settings: Callable[..., None]
) -> Callable[..., Panoptic]:
    """Load one of the panoptic backends, with options, by the settings."""

    def load(**options: object) -> Panoptic:
        model = folder / request.param
        settings("label_regions", backend=request.param, model=model, **options)
        labeller: Panoptic = create_backend("label_regions")
        labeller.load("cpu")
        return labeller

    return load


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a model answer with these queries: a label, its score, and the rows and columns."""

    def answer(labeller: Panoptic, *queries: tuple[str, float, slice, slice]) -> None:
        odds = torch.empty(1, len(queries), len(LABELS) + 1)
        masks = torch.full((1, len(queries), SIDE, SIDE), -9.0)
        for index, (label, score, rows, columns) in enumerate(queries):
            odds[0, index] = (1 - score) / len(LABELS)
            odds[0, index, LABELS.index(label)] = score
            masks[0, index, rows, columns] = 9.0
        monkeypatch.setattr(
            labeller._model,
            "forward",
            lambda **inputs: Mask2FormerForUniversalSegmentationOutput(
                class_queries_logits=odds.log(), masks_queries_logits=masks
            ),
        )

    return answer


def quarter(number: int) -> slice:
    return slice(number * SIDE // 4, (number + 1) * SIDE // 4)


ALL = slice(0, SIDE)
TOP = slice(0, SIDE * 3 // 4)
SCENE = (
    ("sky-other-merged", 0.9, ALL, quarter(1)),
    ("person", 0.95, ALL, quarter(0)),
    ("sky-other-merged", 0.8, TOP, quarter(3)),
    ("person", 0.7, ALL, quarter(2)),
    ("dog", 0.4, quarter(3), quarter(3)),
)
"""Columns: a person, sky, a person, and sky above what may be a dog."""


def seen(regions: Sequence[LabelledRegion]) -> list[tuple[str, bool, float, Corners | None]]:
    return [(r.label, r.is_thing, round(r.mask.area, 4), r.mask.box) for r in regions]


@pytest.mark.parametrize("size", [(SIDE, SIDE), (2 * SIDE, SIDE)])
def test_things_are_apart_stuff_is_one_and_the_rest_is_nothing(
    panoptic: Callable[..., Panoptic], queries: Callable[..., None], size: tuple[int, int]
) -> None:
    labeller = panoptic()
    queries(labeller, *SCENE)
    regions = labeller.label_regions(Image.new("RGB", size))
    assert {region.mask.size for region in regions} == {(size[1], size[0])}
    sky, *people = seen(regions)
    assert sky == ("sky", False, pytest.approx(0.4375, abs=0.002), (0.25, 0, 1, 1))
    assert sorted(people, key=lambda person: person[3] or ()) == [
        ("person", True, pytest.approx(0.25, abs=0.002), pytest.approx((0, 0, 0.25, 1), abs=0.002)),
        (
            "person", True, pytest.approx(0.25, abs=0.002),
            pytest.approx((0.5, 0, 0.75, 1), abs=0.002),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, ["person", "person", "sky"]),
        ({"threshold": 0.3, "mask_threshold": 0.3}, ["dog", "person", "person", "sky"]),
        ({"threshold": 0.75}, ["person", "sky"]),
        ({"threshold": 1}, []),
        ({"smallest": 0.3}, ["sky"]),
        ({"smallest": 1}, []),
        ({"stuff": ["person"]}, ["person", "sky", "sky"]),
        ({"stuff": []}, ["person", "person", "sky", "sky"]),
    ],
)
def test_options_say_what_counts(
    panoptic: Callable[..., Panoptic],
    queries: Callable[..., None],
    options: dict[str, object],
    labels: list[str],
) -> None:
    labeller = panoptic(**options)
    queries(labeller, *SCENE)
    regions = labeller.label_regions(Image.new("RGB", (SIDE, SIDE)))
    assert sorted(region.label for region in regions) == labels


def test_what_is_mostly_covered_is_dropped(
    panoptic: Callable[..., Panoptic], queries: Callable[..., None]
) -> None:
    scene = (("person", 0.9, ALL, slice(0, 288)), ("dog", 0.8, ALL, ALL))
    for overlap, labels in ((0.8, ["person"]), (0.2, ["person", "dog"])):
        labeller = panoptic(overlap=overlap)
        queries(labeller, *scene)
        regions = labeller.label_regions(Image.new("RGB", (SIDE, SIDE)))
        assert [region.label for region in regions] == labels


@torch.inference_mode()
def test_mask2former_divides_as_the_library_does(folder: Path, picture: Image.Image) -> None:
    labeller = Mask2FormerLabeller(
        model=str(folder / "mask2former"),
        threshold=0, mask_threshold=0, overlap=0, smallest=0, stuff=(),
    )  # fmt: skip
    labeller.load("cpu")
    outputs = labeller._model(**labeller._processor(images=picture, return_tensors="pt"))
    (expected,) = labeller._processor.post_process_panoptic_segmentation(
        outputs, threshold=0, mask_threshold=0, overlap_mask_area_threshold=0,
        label_ids_to_fuse=set(), target_sizes=[(80, 120)],
    )  # fmt: skip
    wanted = {
        (plain_label(LABELS[segment["label_id"]]), pixels.tobytes())
        for segment in expected["segments_info"]
        if (pixels := (expected["segmentation"] == segment["id"]).numpy()).any()
    }
    found = labeller.label_regions(picture)
    assert len(wanted) > 1
    assert {(region.label, region.mask.array().tobytes()) for region in found} == wanted


@torch.inference_mode()
def test_segformer_gives_every_pixel_the_librarys_label(folder: Path, picture: Image.Image) -> None:
    labeller = SegformerLabeller(model=str(folder / "segformer"), smallest=0)
    labeller.load("cpu")
    outputs = labeller._model(**labeller._processor(images=picture, return_tensors="pt"))
    (expected,) = labeller._processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(80, 120)]
    )
    found = labeller.label_regions(picture)
    assert len(found) > 1
    assert not any(region.is_thing for region in found)
    assert sum(region.mask.area for region in found) == pytest.approx(1)
    names = [plain_label(label) for label in LABELS]
    for region in found:
        pixels = (expected == names.index(region.label)).numpy()
        assert np.array_equal(region.mask.array(), pixels)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_photo_gets_masks_of_its_size(folder: Path, dtype: str) -> None:
    labeller = SegformerLabeller(model=str(folder / "segformer"), dtype=dtype)
    labeller.load("cpu")
    photo = Image.linear_gradient("L").resize((1600, 1200)).convert("RGB")
    regions = labeller.label_regions(photo)
    assert {region.mask.size for region in regions} == {(1200, 1600)}
    areas = [region.mask.area for region in regions]
    assert areas == sorted(areas, reverse=True)
    assert sum(areas) == pytest.approx(1, abs=0.01)


def test_the_finding_in_words(
    folder: Path, settings: Callable[..., None], queries: Callable[..., None]
) -> None:
    settings("label_regions", model=folder / "mask2former")
    skill = LabelRegions()
    skill.setup("cpu")
    queries(skill.backend, *SCENE)
    output = skill.call({"image": "img_1"}, images={"img_1": Image.new("RGB", (SIDE, SIDE))})
    assert isinstance(output, RegionMap)
    assert output.text().splitlines() == [
        "3 regions: 2 people (50 % of the image) and sky (44 %).",
        "sky [0.25, 0.0, 1.0, 1.0] 44 %",
        "person [0.0, 0.0, 0.25, 1.0] 25 %",
        "person [0.5, 0.0, 0.75, 1.0] 25 %",
    ]
    assert [label for label, _ in output.masks()] == ["sky", "person", "person"]
    assert "mask" not in output.model_dump()["regions"][0]


class Stripes:
    """A `RegionLabeller` that finds a thing of its own kind in each row of pixels."""

    def label_regions(self, image: Image.Image) -> list[LabelledRegion]:
        rows = np.eye(image.height, dtype=bool)
        masks = [Mask.from_array(np.repeat(row[:, None], image.width, axis=1)) for row in rows]
        return [
            LabelledRegion(label=f"thing {chr(97 + number)}", mask=mask, is_thing=True)
            for number, mask in enumerate(masks)
        ]


@pytest.mark.parametrize(
    ("rows", "first", "lines", "masks"),
    [
        (1, "1 region: 1 thing a (100 % of the image).", 2, 1),
        (20, " and 8 other labels.", 14, 20),
        (21, " and 9 other labels. Only the 20 largest have a mask.", 14, 20),
    ],
)
def test_many_regions_are_told_in_short(rows: int, first: str, lines: int, masks: int) -> None:
    skill = LabelRegions()
    skill.backend = Stripes()  # type: ignore[assignment]
    output = skill.run(Image.new("RGB", (4, rows)))
    told = output.text().splitlines()
    assert told[0].endswith(first)
    assert len(told) == lines
    assert len(list(output.masks())) == masks
    assert len(output.regions) == rows


def test_no_region_is_told() -> None:
    assert RegionMap(regions=()).text() == "Found no region to label."


@pytest.mark.parametrize(
    "arguments",
    [{}, {"image": "img_2"}, {"image": "mask_1"}, {"image": "img_1", "labels": ["sky"]}],
)
def test_a_call_that_does_not_fit_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadSkillUse):
        LabelRegions().call(arguments, images={"img_1": Image.new("RGB", (9, 9))})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"smallest": -0.1}, "smallest"),
        ({"backend": "segformer", "threshold": 0.5}, "no setting .*'threshold'"),
        (
            {"stuff": ["sky"]},
            "no label 'sky', which the setting `stuff` names; it has: person",
        ),
        ({"backend": "oneformer"}, "is a mask2former, not a oneformer"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    folder: Path, settings: Callable[..., None], options: dict[str, object], problem: str
) -> None:
    settings("label_regions", **{"model": folder / "mask2former", **options})
    with pytest.raises(BadConfiguration, match=problem):
        create_backend("label_regions").load("cpu")


@pytest.mark.parametrize(
    ("labels", "stuff"),
    [
        (["person", "pillow", "sky-other-merged", "wall-brick"], {1, 2, 3}),
        (["wall", "bed ", "pillow", "road, route", "earth, ground", "plant"], {0, 3, 4, 5}),
        (["road", "vegetation", "terrain", "pole", "car", "traffic sign"], {0, 1, 2, 3, 5}),
        (["screw", "bolt"], set()),
        ([], set()),
    ],
)
def test_the_data_set_says_what_is_stuff(labels: list[str], stuff: set[int]) -> None:
    assert stuff_among(labels) == {labels[index] for index in stuff}


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("sky-other-merged", "sky"),
        ("tree-merged", "tree"),
        ("mirror-stuff", "mirror"),
        ("water-other", "water"),
        ("wall-brick", "brick wall"),
        ("wall-other-merged", "wall"),
        ("road, route", "road"),
        ("bed ", "bed"),
        ("t-shirt", "t-shirt"),
        ("traffic light", "traffic light"),
    ],
)
def test_labels_are_said_plainly(label: str, plain: str) -> None:
    assert plain_label(label) == plain
