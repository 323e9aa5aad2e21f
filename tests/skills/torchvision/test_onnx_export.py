"""YOLO in ONNX as ultralytics exports it: what its own runtime finds, found without it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.skills.backends.onnx_yolo import OnnxYoloDetector
from llava_plus.skills.geometry import Corners
from PIL import Image

from .random_yolo import randomise

LEAST = 0.25
WIDTH, HEIGHT = 300, 210


@pytest.fixture(scope="module")
def image(astronaut: Image.Image) -> Image.Image:
    return astronaut.crop((0, 0, WIDTH, HEIGHT))


def exported(folder: Path, config: str, **options: Any) -> str:
    """An ONNX file of a YOLO with random weights."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    model = YOLO(config)
    randomise(model)
    model.model.names = {number: f"kind {number}" for number in range(80)}
    model.save(folder / "yolo.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's way of tracing is about to go
        return str(YOLO(folder / "yolo.pt").export(format="onnx", simplify=False, **options))


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("yolov8n.yaml", {"imgsz": (96, 160)}),
        ("yolo11n.yaml", {"imgsz": 128, "dynamic": True}),
        ("yolo26n.yaml", {"imgsz": 128, "nms": False}),
        ("yolov8n.yaml", {"imgsz": 128, "nms": True, "conf": LEAST}),
    ],
    ids=["anchors", "any-size", "end-to-end", "with-nms"],
)
def test_things_are_the_librarys(
    tmp_path: Path, image: Image.Image, config: str, options: dict[str, Any]
) -> None:
    from ultralytics import YOLO

    path = exported(tmp_path, config, **options)
    asked = {"imgsz": options["imgsz"], "conf": LEAST, "rect": False, "verbose": False}
    (result,) = YOLO(path, task="detect").predict(image, **asked)
    boxes = result.boxes
    expected = [
        (result.names[int(kind)], float(score), Corners.from_pixels(*box, WIDTH, HEIGHT))
        for kind, score, box in zip(boxes.cls, boxes.conf, boxes.xyxy.tolist(), strict=True)
    ]
    expected = [thing for thing in expected if thing[2].area > 0]
    detector = OnnxYoloDetector(model=path, threshold=LEAST)
    detector.load("cpu")
    found = list(detector.detect(image, detector.vocabulary, None).objects)
    assert len(found) == len(expected) > 10
    for kind, score, box in expected:
        same = [
            thing
            for thing in found
            if (thing.label, thing.score) == (kind, pytest.approx(score, abs=1e-3))
            and tuple(thing.box) == pytest.approx(tuple(box), abs=1 / WIDTH)
        ]
        found.remove(same[0])
