"""Points lie inside the things that they point at, also where the middle of their box does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from llava_plus.skills.backends import Detection, Findings
from llava_plus.skills.errors import BadSkillUse
from llava_plus.skills.geometry import Corners, Mask, Position
from llava_plus.skills.point import PointAt, PointedAt, innermost
from PIL import Image


def ring() -> np.ndarray:
    """Thicker at its right: 120 x 200 pixels."""
    y, x = np.mgrid[:120, :200]
    outer = (x - 100) ** 2 + (y - 60) ** 2 < 55**2
    return outer & ((x - 90) ** 2 + (y - 60) ** 2 >= 40**2)


@pytest.mark.parametrize(
    ("box", "pole"),
    [((20, 10, 61, 31), (40, 20)), ((0, 0, 200, 120), (100, 60)), ((0, 0, 9, 120), (4, 60))],
)
def test_the_pole_of_a_box_is_on_its_middle_line(
    box: tuple[int, ...], pole: tuple[int, int]
) -> None:
    cells = np.zeros((120, 200), dtype=bool)
    cells[box[1] : box[3], box[0] : box[2]] = True
    point = innermost(Mask.from_array(cells))
    depth = min(pole[0] - box[0], pole[1] - box[1]) + 1
    column, row = point.pixels(200, 120)
    edges = (column - box[0], box[2] - 1 - column, row - box[1], box[3] - 1 - row)
    assert min(edges) + 1 >= depth / 2


def test_the_pole_of_a_ring_is_in_the_ring() -> None:
    point = innermost(Mask.from_array(ring()))
    assert point == pytest.approx((0.71, 0.5), abs=0.08)
    column, row = point.pixels(200, 120)
    assert ring()[row - 8 : row + 9, column - 8 : column + 9].mean() > 0.9, "well inside"


def test_a_single_pixel_is_hit() -> None:
    cells = np.zeros((1500, 3000), dtype=bool)
    cells[1234, 2345] = True
    assert innermost(Mask.from_array(cells)).pixels(3000, 1500) == (2345, 1234)


class Known:
    """A `Detector` and an `Outliner` of two things: a ring, and one that has no outline."""

    vocabulary: Sequence[str] = ("ring", "ghost", "cat")

    def load(self, device: str) -> None:
        pass

    def detect(
        self, image: Image.Image, labels: Sequence[str], threshold: float | None
    ) -> Findings:
        boxes = {"ring": Corners(0.2, 0.0, 0.8, 1.0), "ghost": Corners(0.1, 0.2, 0.3, 0.4)}
        return Findings(
            objects=tuple(
                Detection(label=label, box=boxes[label], score=0.9)
                for label in labels
                if label in boxes
            ),
            unknown=tuple(label for label in labels if label not in self.vocabulary),
        )

    def outline(self, image: Image.Image, place: Corners | Position) -> Mask | None:
        return Mask.from_array(ring()) if place[3] == 1 else None


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> PointAt:
    monkeypatch.setattr("llava_plus.skills.point.create_backend", lambda skill: Known())
    skill = PointAt()
    skill.setup("cpu")
    return skill


def point(skill: PointAt, image: Image.Image, *labels: object) -> PointedAt:
    output = skill.call({"image": "img_1", "labels": list(labels)}, images={"img_1": image})
    assert isinstance(output, PointedAt)
    return output


def test_counts_come_first_then_a_point_each(known: PointAt) -> None:
    output = point(known, Image.new("RGB", (200, 120)), "ring", "rings", "cat", "keys")
    place = list(output.points[0].point)
    assert output.text().splitlines() == [
        "Found 1 ring and no cat. Not looked for (unknown to this detector): keys.",
        f"ring {place}",
    ]
    output = point(known, Image.new("RGB", (200, 120)), "ghost")
    assert output.text() == "Found 1 ghost.\nghost [0.2, 0.3]", "the middle of its box"


def test_a_face_is_pointed_at(astronaut: Image.Image) -> None:
    skill = PointAt()
    skill.setup("cpu")
    output = point(skill, astronaut.crop((96, 0, 352, 256)), "face")
    assert output.summary() == "Found 1 face."
    ((x, y),) = [found.point for found in output.points]
    assert 0.35 < x < 0.7
    assert 0.25 < y < 0.65


@pytest.mark.parametrize(
    "labels", [[], [""], ["x" * 101], ["keys"], ["keys", "fork"], [1], ["ring"] * 51]
)
def test_labels_that_lead_nowhere_are_refused(known: PointAt, labels: list[object]) -> None:
    with pytest.raises(BadSkillUse):
        point(known, Image.new("RGB", (200, 120)), *labels)
