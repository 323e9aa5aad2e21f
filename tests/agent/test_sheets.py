"""Which images of a call are shown side by side, how, and in which files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.outputs import Outputs
from llava_plus.agent.sheets import before_after, contact_sheet
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.skills import Artifact, SkillResult, SkillUse
from llava_plus.skills.images import ImageRef, ImageStore, encode_image
from PIL import Image, ImageChops

PAPER, BLUE, RED = (250, 250, 248), (0, 0, 255), (255, 0, 0)
BOX = [0.2, 0.2, 0.6, 0.6]
SHAPES = [(400, 300), (300, 400), (1, 900), (900, 1), (8, 8), (3000, 2000)]
SOME = ImageRef(sha256="0" * 64, media_type="image/png", width=1, height=1)


def result(data: dict[str, Any] | None = None, *labels: str) -> SkillResult:
    artifacts = tuple(Artifact(image=SOME, label=label) for label in labels)
    return SkillResult(id="a", name="any", data=data or {}, artifacts=artifacts)


def plain(*sizes: tuple[int, int], colour: str = "blue") -> list[tuple[str, Image.Image]]:
    return [(f"img_{n}", Image.new("RGB", size, colour)) for n, size in enumerate(sizes, 2)]


# --- Contact sheets


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (9, 3, 3), (12, 4, 3), (24, 6, 4)],
)
def test_the_grid_is_wider_than_high_and_full(count: int, columns: int, rows: int) -> None:
    sheet = contact_sheet(plain(*[(40, 30)] * count), result(None, *[""] * count))
    assert sheet
    across = starts([sheet.getpixel((x, 100)) for x in range(sheet.width)])
    down = starts([sheet.getpixel((60, y)) for y in range(sheet.height)])
    assert (across, down) == (columns, rows)
    assert 1100 < sheet.width < 1900


def starts(pixels: list[Any]) -> int:
    """How often paper is followed by blue."""
    return sum(pair == (PAPER, BLUE) for pair in pairwise(pixels))


def test_pictures_keep_their_shapes() -> None:
    sheet = contact_sheet(plain(*SHAPES), result(None, *[""] * len(SHAPES)))
    assert sheet
    width = sum(sheet.getpixel((x, 200)) == BLUE for x in range(24, 510))
    height = sum(sheet.getpixel((200, y)) == BLUE for y in range(24, 420))
    assert width / height == pytest.approx(4 / 3, rel=0.02)


@pytest.mark.parametrize(
    ("data", "labels", "drawn"),
    [
        ({"found": [{"caption": "MMM"}, {"caption": ""}]}, ("", ""), (24, 70)),
        ({"objects": [{"label": "MMM", "box": [0, 0, 1, 1]}, {"label": ""}]}, ("", ""), (24, 70)),
        ({"found": [{"score": 0.5}, {"title": "", "score": 0.4}]}, ("", ""), (554, 1168)),
        ({"found": [{"caption": "M"}, {"caption": "M"}]}, ("MMM", "MMM"), (24, 654)),
    ],
)
def test_what_is_known_of_a_picture_stands_below_it(
    data: dict[str, Any], labels: tuple[str, ...], drawn: tuple[int, int]
) -> None:
    pictures = plain((40, 30), (40, 30))
    bare = contact_sheet(pictures, result(None, "", ""))
    told = contact_sheet(pictures, result(data, *labels))
    assert bare
    assert told
    bounds = ImageChops.difference(bare, told.crop((0, 0, *bare.size))).getbbox()
    assert bounds
    left, top, right, _ = bounds
    assert top > 400, "the pictures are as they were"
    assert (left, right) == pytest.approx(drawn, abs=3)


@pytest.mark.parametrize(
    "caption", ["word " * 300, "letters" * 300, "長い説明" * 100, "\n\n", "i" * 40, "a b"]
)
def test_a_caption_of_any_length_stays_in_its_column(caption: str) -> None:
    told = result({"found": [{"caption": caption}, {"caption": ""}]}, "", "")
    sheet = contact_sheet(plain((40, 30), (40, 30)), told)
    assert sheet
    assert sheet.height < 600
    gap = sheet.crop((24 + 560 + 1, 0, 24 + 560 + 23, sheet.height))
    assert gap.getcolors() == [(gap.width * gap.height, PAPER)]


@pytest.mark.parametrize(
    "data",
    [
        {"found": [{"caption": "one of three"}] * 3},
        {"found": ["a", "b"], "more": [{"box": 3}, {"box": 4}]},
        {"found": [{"caption": None, "score": float("nan")}, {"score": "high"}]},
    ],
)
def test_what_does_not_tell_of_the_pictures_is_not_read(data: dict[str, Any]) -> None:
    pictures = plain((40, 30), (30, 40))
    sheets = [contact_sheet(pictures, result(given, "", "")) for given in (data, None)]
    assert sheets[0]
    assert sheets[0] == sheets[1]


# --- Before and after


@pytest.mark.parametrize("size", [*SHAPES, (20, 400), (5000, 30)])
def test_the_two_stand_side_by_side_at_one_height(size: tuple[int, int]) -> None:
    sheet = before_after(plain(size), plain(size, colour="red"), result(None, ""))
    assert sheet
    side, height = (sheet.width - 6) // 2, sheet.height - 36
    assert max(side, height) == 800
    assert min(side, height) == pytest.approx(800 * min(size) / max(size), abs=1)
    assert sheet.getpixel((side - 1, sheet.height - 1)) == BLUE
    assert sheet.getpixel((side + 6, sheet.height - 1)) == RED


@pytest.mark.parametrize(
    ("made", "data", "is_change"),
    [
        ((400, 300), {"operation": "blur"}, True),
        ((1600, 1200), {}, True),
        ((408, 296), {"objects": [{"label": "face", "box": BOX}]}, True),
        ((300, 400), {}, False),
        ((400, 200), {}, False),
        ((400, 300), {"box": BOX, "scale": 2.5}, False),
        ((400, 300), {"found": [{"caption": "another lake", "score": 0.8}]}, False),
    ],
    ids=["same", "enlarged", "rounded", "turned", "cut", "zoomed", "found"],
)
def test_only_a_change_of_the_image_is_set_beside_it(
    made: tuple[int, int], data: dict[str, Any], is_change: bool
) -> None:
    sheet = before_after(plain((400, 300)), plain(made), result(data, ""))
    assert (sheet is not None) == is_change


# --- Files


def write(
    folder: Path, images: int, data: dict[str, Any] | None = None, **arguments: object
) -> tuple[list[tuple[str, str]], Outputs]:
    """What is written of a call that made so many images, in a conversation about two."""
    store = ImageStore()
    refs = [
        store.add(encode_image(Image.new("RGB", (40, 30), (shade, 0, 0))))
        for shade in range(2 + images)
    ]
    use = SkillUse(id="a", name="alter", arguments=arguments)
    made = tuple(Artifact(image=ref) for ref in refs[2:])
    told = SkillResult(id="a", name="alter", text="Done.", data=data or {}, artifacts=made)
    asked = Conversation().ask("Do it.", refs[:2])
    conversation = asked.reply(AssistantMessage(text="", skill_uses=(use,))).add_result(told)
    outputs = Outputs(folder, "photo")
    written = outputs.write_step(conversation, store)
    assert all(file.path.is_file() for file in written)
    return [(file.path.name, file.shows) for file in written], outputs


@pytest.mark.parametrize(
    ("images", "arguments", "sheet"),
    [
        (1, {"instruction": "img_2 or so", "image": "img_1"}, "photo-alter-before-after.png"),
        (2, {"image": "img_1"}, "photo-alter.png"),
        (2, {"query": "a lake"}, "photo-alter.png"),
        (1, {"prompt": "a lake"}, None),
        (1, {"image": "img_1", "style": "img_2"}, None),
        (0, {"image": "img_1"}, None),
    ],
)
def test_a_sheet_is_one_more_file(
    tmp_path: Path, images: int, arguments: dict[str, object], sheet: str | None
) -> None:
    written, outputs = write(tmp_path, images, **arguments)
    names = [name for name, _ in written]
    assert names == [*(f"photo-img_{n + 3}.png" for n in range(images)), *filter(None, [sheet])]
    assert outputs.sheets == ({"a": str(tmp_path / sheet)} if sheet else {})
    assert not outputs.annotated


def test_a_sheet_is_beside_the_finding_and_replaces_no_file(tmp_path: Path) -> None:
    data = {"objects": [{"label": "face", "box": BOX}]}
    for end in ("", "-2"):
        written, _ = write(tmp_path, 1, data, image="img_1")
        assert written == [
            (f"photo-img_3{end}.png", "img_3"),
            (f"photo-1-alter{end}.png", "alter"),
            (f"photo-alter-before-after{end}.png", "alter, before and after"),
        ]
