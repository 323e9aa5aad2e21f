"""YOLO in ONNX, on graphs whose output is known: frames, both forms of output, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llava_plus.skills.backends.onnx_yolo import OnnxYoloDetector
from llava_plus.skills.detect import Detect
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from onnx import TensorProto
from PIL import Image

from .tiny_onnx import save_answer, save_means

NAMES = {0: "person", 1: "traffic light"}
WIDE = Image.new("RGB", (128, 64))
"""In a frame of 64 x 64 it takes the 32 rows in the middle, at half its size."""


def loaded(model: str, **options: object) -> OnnxYoloDetector:
    detector = OnnxYoloDetector(model=model, **options)  # type: ignore[arg-type]
    detector.load("cpu")
    return detector


def anchors(*rows: tuple[float, ...]) -> np.ndarray:
    """Rows of x, y, width, height and a score for each kind, as YOLO gives them."""
    return np.array([rows], dtype=np.float32).transpose(0, 2, 1)


def chosen(*rows: tuple[float, ...]) -> np.ndarray:
    """Rows of x0, y0, x1, y1, score and kind, as a model gives them that chooses for itself."""
    return np.array([rows], dtype=np.float32)


@pytest.fixture
def crowd(tmp_path: Path) -> str:
    """Two people, the first of them seen twice, and a traffic light where the first one is."""
    rows = [
        (16, 32, 16, 16, 0.9, 0.1),
        (16, 33, 16, 16, 0.8, 0.1),
        (48, 32, 32, 16, 0.6, 0.5),
        (16, 32, 16, 16, 0.1, 0.7),
        (16, 32, 16, 16, 0.2, 0.1),
    ]
    return save_answer(tmp_path / "crowd.onnx", anchors(*rows), names=NAMES)


def test_boxes_are_fractions_of_the_image_and_one_for_each_thing(crowd: str) -> None:
    found = loaded(crowd).detect(WIDE, ["people", "traffic lights"], None)
    assert [(thing.label, thing.score, tuple(thing.box)) for thing in found.objects] == [
        ("people", 0.9, (0.125, 0.25, 0.375, 0.75)),
        ("people", 0.6, (0.5, 0.25, 1, 0.75)),
        ("traffic lights", 0.7, (0.125, 0.25, 0.375, 0.75)),
    ]


@pytest.mark.parametrize(
    ("options", "threshold", "scores"),
    [
        ({}, 0.8, [0.9]),
        ({"overlap": 1}, None, [0.9, 0.8, 0.6]),
        ({"threshold": 0.6}, None, [0.9, 0.6]),
        ({}, 0.0, [0.9, 0.6]),
        ({}, 1.0, []),
    ],
)
def test_thresholds(
    crowd: str, options: dict[str, float], threshold: float | None, scores: list[float]
) -> None:
    found = loaded(crowd, **options).detect(WIDE, ["person"], threshold).objects
    assert [thing.score for thing in found] == scores


def test_what_the_model_has_chosen_stands(tmp_path: Path) -> None:
    """Here the same box twice; empty ones only fill up."""
    rows = [(8, 24, 24, 40, 0.5, 1), (8, 24, 24, 40, 0.4, 1), (0, 0, 64, 64, 0.3, 0), (0,) * 6]
    detector = loaded(save_answer(tmp_path / "chosen.onnx", chosen(*rows), names=NAMES))
    found = detector.detect(WIDE, ["traffic light", "person"], 0.0).objects
    assert [(thing.label, thing.score, tuple(thing.box)) for thing in found] == [
        ("traffic light", 0.5, (0.125, 0.25, 0.375, 0.75)),
        ("traffic light", 0.4, (0.125, 0.25, 0.375, 0.75)),
        ("person", 0.3, (0, 0, 1, 1)),
    ]


@pytest.mark.parametrize(
    ("size", "padding"), [((64, 64), 0.5), ((32, 64), 0), (("height", "width"), 0.5)]
)
def test_pixels_reach_the_model_as_it_was_trained(
    tmp_path: Path, size: tuple[int | str, int | str], padding: float
) -> None:
    """Red first, from 0 to 1, on grey of 114; a model that takes any size gets its own."""
    told = {"names": {0: "red", 1: "green", 2: "blue"}, "imgsz": [64, 64]}
    detector = loaded(save_means(tmp_path / "means.onnx", (32, 16, 64, 32), size=size, **told))
    image = Image.new("RGB", (200, 100), (255, 51, 0))
    (thing,) = detector.detect(image, ["red", "green", "blue"], 0.0).objects
    mean = (1 - padding) + padding * 114 / 255
    assert (thing.label, thing.score) == ("red", pytest.approx(mean, abs=1e-3))


def test_settings_name_what_a_file_does_not(
    tmp_path: Path, crowd: str, settings: Callable[..., None]
) -> None:
    nameless = save_answer(tmp_path / "nameless.onnx", chosen((0, 16, 64, 48, 0.5, 1)))
    settings("detect", backend="onnx-yolo", model=nameless, names=["ant", "bee"])
    skill = Detect()
    skill.setup("cpu")
    told = skill.call({"labels": ["bees"], "image": "img_1"}, images={"img_1": WIDE}).text()
    assert told == "Found 1 bee.\nbees [0.0, 0.0, 1.0, 1.0]"
    with pytest.raises(BadSkillUse, match="does not know 'person'; it knows: ant, bee"):
        skill.call({"labels": ["person"], "image": "img_1"}, images={"img_1": WIDE})
    assert loaded(crowd, names=("ant", "bee")).vocabulary == ("ant", "bee")


def test_not_every_kind_is_told_where_there_are_many(
    tmp_path: Path, settings: Callable[..., None]
) -> None:
    names = {number: f"kind {number}" for number in range(300)}
    model = save_answer(tmp_path / "many.onnx", chosen((0, 0, 1, 1, 0.5, 1)), names=names)
    settings("detect", backend="onnx-yolo", model=model)
    skill = Detect()
    skill.setup("cpu")
    with pytest.raises(BadSkillUse, match=r"kind 98, kind 99, and 200 more\. With the backend"):
        skill.call({"labels": ["moss"], "image": "img_1"}, images={"img_1": WIDE})


@pytest.mark.parametrize("size", [(1, 1), (4000, 1), (1, 4000), (33, 57)])
def test_images_of_any_shape_are_looked_at(crowd: str, size: tuple[int, int]) -> None:
    loaded(crowd).detect(Image.new("RGB", size), ["person"], 0.0)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    good = anchors((16, 32, 16, 16, 0.9, 0.1))
    with pytest.raises(BadConfiguration, match=r"no file '.*model\.onnx' for `model`"):
        loaded(str(path))
    path.write_bytes(b"not a graph")
    with pytest.raises(BadConfiguration, match=r"model\.onnx cannot be opened as ONNX"):
        loaded(str(path))
    with pytest.raises(BadConfiguration, match="does not say what it finds: give `names`"):
        loaded(save_answer(path, good))
    for names in ("__import__('os').getcwd()", "{0: 'person'", "[" * 10_000, {"a": "b"}):
        with pytest.raises(BadConfiguration, match="has names that cannot be read"):
            loaded(save_answer(path, good, names=names))
    with pytest.raises(BadConfiguration, match=r"gives \(1, 6, 1\); a detector of 3 kinds gives"):
        loaded(save_answer(path, good, names={0: "a", 1: "b", 2: "c"}))
    with pytest.raises(BadConfiguration, match=r"takes tensor\(uint8\) \[1, 3, 64, 64\]"):
        loaded(save_answer(path, good, names=NAMES, kind=TensorProto.UINT8))
    with pytest.raises(BadConfiguration, match="has imgsz that cannot be read: '64'"):
        loaded(save_answer(path, good, names=NAMES, imgsz=64))
