"""Named things are found where they are, and what cannot be looked for is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from llava_plus.skills import Corners, load_skill
from llava_plus.skills.backends import Findings
from llava_plus.skills.backends.opencv_words import KINDS, meaning
from llava_plus.skills.detect import Detect, FoundThings
from llava_plus.skills.errors import BadSkillUse
from PIL import Image


@pytest.fixture(scope="module")
def detect() -> Detect:
    skill = load_skill("detect")
    assert isinstance(skill, Detect)
    skill.setup("cpu")
    return skill


def find(detect: Detect, image: Image.Image, *labels: str, **arguments: object) -> FoundThings:
    call = {"labels": list(labels), "image": "img_1", **arguments}
    output = detect.call(call, images={"img_1": image})
    assert isinstance(output, FoundThings)
    return output


def covers(box: Corners, x: float, y: float) -> bool:
    return box.x0 < x < box.x1 and box.y0 < y < box.y1


def test_a_face_is_found_under_the_label_that_was_asked_for(detect: Detect, astronaut: Image.Image):
    found = find(detect, astronaut, "faces")
    (face,) = found.objects
    assert face.label == "faces"
    assert covers(face.box, 0.44, 0.22)
    assert face.box.area < 0.06
    assert face.score > 0.5
    assert found.text().startswith("Found 1 face.\nfaces [0.3")


def test_a_person_is_larger_than_her_face(detect: Detect, astronaut: Image.Image):
    (person,) = find(detect, astronaut, "person").objects
    assert covers(person.box, 0.44, 0.22)
    assert covers(person.box, 0.4, 0.8)


def test_eyes_and_smile_are_in_the_face(detect: Detect, astronaut: Image.Image):
    found = find(detect, astronaut, "eyes", "smile").objects
    assert [thing.label for thing in found] == ["eyes", "eyes", "smile"]
    (face,) = find(detect, astronaut, "face").objects
    for thing in found:
        assert covers(face.box, (thing.box.x0 + thing.box.x1) / 2, thing.box.y0)
    assert found[0].box.y1 < found[2].box.y0


def test_boxes_are_fractions_whatever_the_size(detect: Detect, astronaut: Image.Image):
    large = find(detect, astronaut.resize((2000, 2000)), "face").objects[0].box
    small = find(detect, astronaut.resize((300, 300)), "face").objects[0].box
    assert large == pytest.approx(small, abs=0.03)


@pytest.mark.parametrize("kind", ["noise", "plain", "page"])
def test_nothing_is_found_where_nothing_is(detect: Detect, write, kind: str):
    image = {
        "noise": lambda: Image.effect_noise((400, 300), 90).convert("RGB"),
        "plain": lambda: Image.new("RGB", (400, 300), "teal"),
        "page": lambda: write((400, 300), {(20, 40): "A page with", (20, 120): "some text"}),
    }[kind]()
    found = find(detect, image, *KINDS)
    assert not found.objects
    assert found.text().startswith("Found no face, no person, ")


def test_codes_are_found_and_decoded(detect: Detect, qr_page: Callable[..., Image.Image]):
    page = qr_page({(60, 60): "https://example.org/a", (600, 300): "two\nlines"})
    found = find(detect, page, "QR code")
    assert [thing.content for thing in found.objects] == ["https://example.org/a", "two\nlines"]
    assert found.summary() == (
        'Found 2 QR codes. Decoded: "https://example.org/a" and "two lines".'
    )
    assert covers(found.objects[0].box, 0.12, 0.2)


def test_what_it_does_not_know_is_refused_with_what_it_knows(
    detect: Detect, astronaut: Image.Image
):
    with pytest.raises(BadSkillUse) as raised:
        find(detect, astronaut, "keys", "dog")
    for words in ("'keys' and 'dog'", "face, person", "grounding-dino"):
        assert words in str(raised.value)


def test_what_it_does_not_know_is_named_beside_what_it_found(
    detect: Detect, astronaut: Image.Image
):
    text = find(detect, astronaut, "face", "keys").text()
    assert text.splitlines()[0] == (
        "Found 1 face. Not looked for (unknown to this detector): keys."
    )


def test_it_says_that_it_cannot_tell_women_from_others(detect: Detect, astronaut: Image.Image):
    assert find(detect, astronaut, "woman").summary() == (
        "Found 1 woman. Any person counts as woman to this detector."
    )


def test_a_label_that_repeats_another_counts_once(detect: Detect, astronaut: Image.Image):
    assert find(detect, astronaut, "face", "Faces", " face ").summary() == "Found 1 face."


def test_a_high_threshold_leaves_the_sure_ones(detect: Detect, astronaut: Image.Image):
    assert find(detect, astronaut, "face", threshold=1).objects == ()


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": []},
        {"labels": [""]},
        {"labels": ["  "]},
        {"labels": ["x" * 101]},
        {"labels": ["face"] * 51},
        {"labels": "face"},
        {"labels": ["face"], "threshold": 1.1},
        {"labels": ["face"], "confidence": 0.5},
    ],
)
def test_a_call_that_does_not_fit_is_refused(detect: Detect, arguments: dict[str, object]):
    with pytest.raises(BadSkillUse):
        detect.call({"image": "img_1", **arguments}, images={"img_1": Image.new("RGB", (9, 9))})


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (64, 20), (900, 30)])
def test_thin_and_tiny_images_can_be_searched(detect: Detect, size: tuple[int, int]):
    assert find(detect, Image.new("RGB", size, "white"), *KINDS).objects == ()


@pytest.mark.parametrize(
    ("label", "kind", "narrow"),
    [
        ("people", "person", False),
        ("Pedestrians", "person", False),
        ("the men", "person", True),
        ("kids' faces", "face", True),
        ("people's faces", "face", False),
        ("the woman’s face", "face", True),  # noqa: RUF001 - typed by people
        ("licence plates", "number plate", False),
        ("qr codes", "QR code", False),
        ("EAN code", "barcode", False),
        ("cat's face", "cat face", False),
    ],
)
def test_everyday_words_are_understood(label: str, kind: str, narrow: bool):
    assert meaning(label) == (kind, narrow)


@pytest.mark.parametrize("label", ["cat", "clock face", "dinner plates", "keys", "snowman", ""])
def test_words_for_other_things_are_not_mistaken(label: str):
    assert meaning(label) is None


class AnyDetector:
    """A `Detector` that takes every label and finds nothing."""

    vocabulary: Sequence[str] = ()

    def load(self, device: str) -> None:
        self.device = device

    def detect(
        self, image: Image.Image, labels: Sequence[str], threshold: float | None
    ) -> Findings:
        return Findings()


def test_another_backend_may_know_any_label(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llava_plus.skills.backed.create_backend", lambda skill: AnyDetector())
    skill = Detect()
    skill.setup("cuda:0")
    assert find(skill, Image.new("RGB", (9, 9)), "keys").text() == "Found no keys."


def test_nothing_heavy_is_imported_before_setup():
    code = (
        "import sys; from llava_plus.skills import adjust, detect, ocr, segment; "
        "[module(). spec for module in (adjust.Adjust, detect.Detect, ocr.Ocr, segment.Segment)]; "
        "print([name for name in ('cv2', 'numpy', 'PIL', 'rapidocr', 'onnxruntime') "
        "if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
