"""GroundingDINO and OWLv2 on tiny models: loading, labels, boxes as the library has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from llava_plus.skills.backends import Detection
from llava_plus.skills.backends.open_vocabulary import GroundingDinoDetector, Owlv2Detector
from llava_plus.skills.detect import Detect
from llava_plus.skills.errors import BadConfiguration
from PIL import Image

from .tiny_models import save_grounding_dino, save_owlv2

LABELS = ("dog", "red car")
Loaded = TypeVar("Loaded", GroundingDinoDetector, Owlv2Detector)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> GroundingDinoDetector:
    folder = tmp_path_factory.mktemp("dino")
    save_grounding_dino(folder)
    return loaded(GroundingDinoDetector(model=str(folder), overlap=1))


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Owlv2Detector:
    folder = tmp_path_factory.mktemp("owl")
    save_owlv2(folder)
    return loaded(Owlv2Detector(model=str(folder), overlap=1))


def loaded(detector: Loaded) -> Loaded:
    detector.load("cpu")
    return detector


def within(box: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    """A box in pixels as fractions of the image, cut at its edges."""
    sizes = (width, height, width, height)
    return tuple(min(1.0, max(0.0, edge / size)) for edge, size in zip(box, sizes, strict=True))


def assert_same(
    found: Sequence[Detection], wanted: Sequence[tuple[str, float, tuple[float, ...]]]
) -> None:
    """The same things, in any order; a box that is empty within the image is none."""
    whole = [row for row in wanted if row[2][2] - row[2][0] > 2e-3 and row[2][3] - row[2][1] > 2e-3]
    assert len(whole) == len(found) > 3
    for label, score, box in whole:
        assert any(
            thing.label == label
            and thing.score == pytest.approx(score, abs=2e-3)
            and tuple(thing.box) == pytest.approx(box, abs=2e-3)
            for thing in found
        )


@torch.inference_mode()
def test_dino_gives_the_librarys_boxes_and_each_labels_own_score(
    dino: GroundingDinoDetector, picture: Image.Image
) -> None:
    found = dino.detect(picture, LABELS, 0.0).objects
    inputs = dino._processor(images=picture, text="dog. red car.", return_tensors="pt")
    outputs = dino._model(**inputs)
    (expected,) = dino._processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, target_sizes=[(80, 120)]
    )
    # Of the caption's tokens, [CLS] d o g . r e d c a r . [SEP], those of a label count for it.
    odds = outputs.logits[0].sigmoid()
    scores = torch.stack([odds[:, 1:4].amax(-1), odds[:, 5:11].amax(-1)], dim=-1)
    wanted = [
        (LABELS[int(row.argmax())], float(row.max()), within(box, 120, 80))
        for row, box in zip(scores, expected["boxes"].tolist(), strict=True)
    ]
    assert_same(found, wanted)


def test_dino_reads_many_labels_in_portions(
    dino: GroundingDinoDetector, picture: Image.Image
) -> None:
    labels = [f"{letter * 5}" for letter in "abcdefghij"]
    portions = list(dino._portions(labels))
    assert len(portions) > 1
    assert [label for part in portions for label in part] == labels
    found = {thing.label for thing in dino.detect(picture, labels, 0.0).objects}
    assert found & set(portions[0])
    assert found & set(portions[-1])


@pytest.mark.parametrize("label", ["x" * 100, "...", "what? a dog.", "\N{DOG}"])
def test_dino_takes_any_label(
    dino: GroundingDinoDetector, picture: Image.Image, label: str
) -> None:
    found = dino.detect(picture, [label], 0.0).objects
    assert {thing.label for thing in found} <= {label}


@torch.inference_mode()
def test_owl_finds_what_the_library_finds(owl: Owlv2Detector, picture: Image.Image) -> None:
    found = owl.detect(picture, LABELS, 0.0).objects
    texts = [[f"a photo of {label}" for label in LABELS]]
    inputs = owl._processor(images=picture, text=texts, return_tensors="pt")
    (expected,) = owl._processor.post_process_grounded_object_detection(
        owl._model(**inputs), threshold=0.0, target_sizes=[(80, 120)]
    )
    rows = zip(*(expected[key].tolist() for key in ("labels", "scores", "boxes")), strict=True)
    assert_same(found, [(LABELS[label], score, within(box, 120, 80)) for label, score, box in rows])


def test_boxes_that_repeat_a_surer_one_are_left_out(
    dino: GroundingDinoDetector, picture: Image.Image
) -> None:
    """A label that fills a portion and stands there twice finds everything twice."""
    twice = ["a" * 28] * 2
    every = dino.detect(picture, twice, 0.0).objects
    strict = loaded(GroundingDinoDetector(model=dino.model, overlap=0.9))
    kept = strict.detect(picture, twice, 0.0).objects
    assert len(every) == 2 * len(kept) > 0
    assert set(kept) == set(every)


def test_nothing_scores_more_than_one(owl: Owlv2Detector, picture: Image.Image) -> None:
    assert owl.detect(picture, LABELS, 1.0).objects == ()


def test_a_setting_chooses_the_backend(
    owl: Owlv2Detector, picture: Image.Image, settings: Callable[..., None]
) -> None:
    settings("detect", backend="owlv2", model=owl.model, threshold=0)
    skill = Detect()
    skill.setup("cpu")
    text = skill.call({"labels": ["zebra"], "image": "img_1"}, images={"img_1": picture}).text()
    assert text.startswith("Found 12 zebras.")


def test_what_cannot_be_loaded_is_named(owl: Owlv2Detector, tmp_path: Path) -> None:
    for detector, told in (
        (GroundingDinoDetector(model=str(tmp_path / "none")), "none' cannot be loaded"),
        (GroundingDinoDetector(model=owl.model), "is a owlv2, not a grounding-dino"),
        (Owlv2Detector(model=owl.model, dtype="float33"), "'float33' is not a dtype"),
    ):
        with pytest.raises(BadConfiguration, match=told):
            detector.load("cpu")
