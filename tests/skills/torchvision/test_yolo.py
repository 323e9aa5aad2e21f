"""YOLO and YOLO-World through ultralytics, on random weights in its own file format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llava_plus.skills.backends.yolo import YoloDetector, YoloWorldDetector
from llava_plus.skills.detect import Detect
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from PIL import Image

from ..tiny_embedders import save_clip

LEAST = 1e-7
"""Random weights are never sure of anything."""


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> YoloDetector:
    from ultralytics import YOLO
    from ultralytics.utils import ROOT, YAML

    path = tmp_path_factory.mktemp("yolo") / "yolo26n.pt"
    torch.manual_seed(0)
    model = YOLO("yolo26n.yaml")
    for numbers in model.model.model[-1].parameters():
        if numbers.shape == (80,):  # as they begin, all that is found is a person
            torch.nn.init.normal_(numbers)
    model.model.names = YAML.load(ROOT / "cfg/datasets/coco.yaml")["names"]
    model.save(path)
    detector = YoloDetector(model=str(path), threshold=LEAST)
    detector.load("cpu")
    return detector


def test_boxes_are_the_librarys(yolo: YoloDetector, picture: Image.Image) -> None:
    """Labels in any case and number, each under the words it was asked for."""
    from ultralytics import YOLO

    library = YOLO(yolo.model)
    (every,) = library.predict(picture, conf=LEAST, verbose=False)
    kinds = [kind for kind, _ in Counter(map(int, every.boxes.cls)).most_common(2)]
    labels = [yolo.vocabulary[kinds[0]].upper(), f"{yolo.vocabulary[kinds[1]]}s"]
    found = yolo.detect(picture, labels, None)
    assert found.unknown == ()
    (result,) = library.predict(picture, conf=LEAST, classes=kinds, verbose=False)
    expected = [
        (int(kind), *box)
        for kind, box in zip(result.boxes.cls.tolist(), result.boxes.xyxyn.tolist(), strict=True)
    ]
    assert {kind for kind, *_ in expected} == set(kinds)
    ours = [(kinds[labels.index(thing.label)], *thing.box) for thing in found.objects]
    assert len(ours) == len(expected) > 10
    for kind, *box in ours:
        assert any(
            kind == other and box == pytest.approx(place, abs=2e-3) for other, *place in expected
        )


def test_words_for_people_mean_person_and_others_are_unknown(
    yolo: YoloDetector, picture: Image.Image
) -> None:
    found = yolo.detect(picture, ["woman", "chimney"], 1.0)
    assert (found.objects, found.unknown) == ((), ("chimney",))
    assert "woman" in found.note


def test_the_skill_names_what_it_knows(
    yolo: YoloDetector, picture: Image.Image, settings: Callable[..., None]
) -> None:
    settings("detect", backend="yolo", model=yolo.model, threshold=LEAST)
    skill = Detect()
    skill.setup("cpu")
    with pytest.raises(BadSkillUse, match="does not know 'chimney'; it knows: person, bicycle"):
        skill.call({"labels": ["chimney"], "image": "img_1"}, images={"img_1": picture})
    text = skill.call({"labels": ["zebra"], "image": "img_1"}, images={"img_1": picture}).text()
    assert text.startswith("Found ")


def test_yolo_world_looks_for_any_words(tmp_path: Path, picture: Image.Image) -> None:
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO("yolov8s-worldv2.yaml").save(tmp_path / "world.pt")
    save_clip(tmp_path / "clip", width=512)
    detector = YoloWorldDetector(
        model=str(tmp_path / "world.pt"), words=str(tmp_path / "clip"), threshold=LEAST
    )
    assert detector.weights.is_present()
    detector.load("cpu")
    labels = ["red door", "moss", "chimney"]
    found = detector.detect(picture, labels, None)
    assert {thing.label for thing in found.objects} <= set(labels)
    assert len(found.objects) > 10
    assert detector.detect(picture, ["moss"], 1.0).objects == ()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(BadConfiguration, match=r"other\.pt cannot be opened as YOLO"):
        YoloDetector(model=str(tmp_path / "other.pt")).load("cpu")
