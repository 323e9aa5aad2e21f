"""Text is read as it stands, in the order in which a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from llava_plus.skills import load_skill
from llava_plus.skills.backends import TextLine
from llava_plus.skills.errors import BadSkillUse
from llava_plus.skills.geometry import Corners
from llava_plus.skills.ocr import Ocr, ReadText
from PIL import Image

Write = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    skill = load_skill("ocr")
    assert isinstance(skill, Ocr)
    skill.setup("cpu")
    return skill


def read(ocr: Ocr, image: Image.Image, **arguments: object) -> ReadText:
    output = ocr.call({"image": "img_1", **arguments}, images={"img_1": image})
    assert isinstance(output, ReadText)
    return output


def test_lines_are_read_exactly(ocr: Ocr, write: Write):
    page = write((700, 300), {(40, 40): "INVOICE 2024", (40, 160): "TOTAL $41.50"})
    assert read(ocr, page).text() == "Read 2 lines:\nINVOICE 2024\nTOTAL $41.50"


def test_rows_are_read_from_left_to_right(ocr: Ocr, write: Write):
    words = {(460, 48): "3.50", (40, 40): "Coffee", (460, 140): "2.00", (40, 148): "Water"}
    lines = [line.text for line in read(ocr, write((700, 240), words)).lines]
    assert lines == ["Coffee", "3.50", "Water", "2.00"]


def test_boxes_lie_on_the_words_also_when_a_region_is_read(ocr: Ocr, write: Write):
    page = write((800, 400), {(40, 40): "ENTRANCE", (480, 300): "EXIT"})
    (line,) = read(ocr, page, region=[0.5, 0.5, 1, 1]).lines
    assert line.text == "EXIT"
    assert line.box.x0 == pytest.approx(480 / 800, abs=0.03)
    assert line.box.y0 == pytest.approx(305 / 400, abs=0.05)
    assert line.box.x1 == pytest.approx(555 / 800, abs=0.04)


def test_a_page_without_text(ocr: Ocr):
    output = read(ocr, Image.new("RGB", (300, 200), "white"))
    assert output.text() == output.summary() == "Found no text."


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000)])
def test_thin_and_tiny_images_can_be_read(ocr: Ocr, size: tuple[int, int]):
    assert read(ocr, Image.new("RGB", size, "white")).lines == ()


def test_a_strip_too_long_to_read_at_once_is_read_in_parts(ocr: Ocr):
    strip = Image.new("RGB", (20_000, 30), "white")
    with pytest.raises(BadSkillUse, match="region"):
        read(ocr, strip)
    assert read(ocr, strip, region=[0, 0, 0.05, 1]).lines == ()


def test_a_long_strip_is_read(ocr: Ocr, write: Write):
    strip = write((1500, 40), {(10, 0): "one long line of words on a narrow strip of paper"})
    assert "narrow strip" in read(ocr, strip).text()


@pytest.mark.parametrize("height", [14, 24, 40])
def test_a_strip_that_somebody_marked_is_one_line(ocr: Ocr, write: Write, height: int):
    page = write((700, 440), {(120, 200): "NO PARKING HERE", (120, 40): "Main Street"}, height)
    marked = [0.12, 190 / 440, 0.88, (210 + 1.3 * height) / 440]
    assert [line.text for line in read(ocr, page, region=marked).lines] == ["NO PARKING HERE"]


def test_an_empty_region_is_refused(ocr: Ocr, write: Write):
    with pytest.raises(BadSkillUse, match="region"):
        read(ocr, write((100, 100), {}), region=[0.5, 0.5, 0.5, 0.6])


class FixedReader:
    """A `TextReader` that reads what it is told."""

    def __init__(self, boxes: Iterable[tuple[str, tuple[float, float, float, float]]]) -> None:
        self.lines = [TextLine(text=text, box=Corners(*box), score=1) for text, box in boxes]

    def load(self, device: str) -> None:
        pass

    def read(self, image: Image.Image) -> list[TextLine]:
        return self.lines


def test_reading_order_of_crooked_rows(monkeypatch: pytest.MonkeyPatch):
    reader = FixedReader(
        [
            ("d", (0.5, 0.32, 0.9, 0.42)),
            ("b", (0.5, 0.13, 0.9, 0.23)),
            ("c", (0.1, 0.3, 0.4, 0.4)),
            ("a", (0.1, 0.1, 0.4, 0.2)),
        ]
    )
    monkeypatch.setattr("llava_plus.skills.backed.create_backend", lambda skill: reader)
    skill = Ocr()
    skill.setup("cpu")
    page = Image.new("RGB", (100, 100))
    assert [line.text for line in read(skill, page).lines] == ["a", "b", "c", "d"]
