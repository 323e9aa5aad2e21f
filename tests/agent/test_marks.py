"""Pointing at a picture: boxes, points and painted areas that go with a request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llava_plus.agent.commands.marks import Marking
from llava_plus.agent.places import read_box, read_places, read_point
from llava_plus.model.conversation import Conversation, UserMessage
from llava_plus.skills import ImageStore
from llava_plus.skills.errors import BadInput
from llava_plus.skills.geometry import Corners, Position
from PIL import Image, ImageDraw

from ..serving import png


def asked(store: ImageStore, *colours: str) -> Conversation:
    return Conversation().ask("Blur this.", [store.add(png(colour)) for colour in colours])


def sketch(path: Path, *, mode: str, paper: object) -> Path:
    """A picture whose left half is painted."""
    image = Image.new(mode, (40, 20), paper)  # type: ignore[arg-type]
    ImageDraw.Draw(image).rectangle((0, 0, 19, 19), fill="white")
    image.save(path)
    return path


def test_marks_are_told_to_the_lmm_behind_the_request() -> None:
    marking = Marking(boxes=(read_box("0.1,0.2,0.5,0.6"),), points=(read_point("0.3,0.25"),))
    conversation = marking.add_to(asked(ImageStore(), "red", "blue"))
    (message,) = conversation.chat_messages()
    assert message["content"][-1]["text"] == (
        "Blur this.\nMarked in img_2: box [0.1, 0.2, 0.5, 0.6], point [0.3, 0.25]"
    )


@pytest.mark.parametrize(
    ("mode", "paper"), [("L", 0), ("RGB", "black"), ("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))]
)
def test_a_sketch_becomes_a_mask_of_the_image_that_it_marks(
    tmp_path: Path, mode: str, paper: object
) -> None:
    path = sketch(tmp_path / "sketch.png", mode=mode, paper=paper)
    store = ImageStore()
    conversation = Marking(sketch=path).add_to(asked(store, "red"))
    (ref,) = conversation.images.values()
    mask = conversation.masks["mask_1"]
    assert mask.size == (ref.height, ref.width)
    assert mask.area == 0.5
    assert mask.box == Corners(0, 0, 0.5, 1)
    asked_last = conversation.messages[-1]
    assert isinstance(asked_last, UserMessage)
    assert asked_last.words.endswith("\nMarked in img_1: mask_1")


def test_marks_of_a_later_request_are_in_the_newest_image_and_masks_count_on(
    tmp_path: Path,
) -> None:
    store = ImageStore()
    path = sketch(tmp_path / "sketch.png", mode="L", paper=0)
    first = Marking(sketch=path).add_to(asked(store, "red"))
    second = Marking(sketch=path).add_to(first.ask("And this.", [store.add(png("blue"))]))
    assert list(second.masks) == ["mask_1", "mask_2"]
    assert second.chat_messages()[-1]["content"][-1]["text"].endswith("in img_2: mask_2")


@pytest.mark.parametrize(("paper", "told"), [(255, "everything"), (0, "nothing")])
def test_a_sketch_that_marks_no_part_is_refused(tmp_path: Path, paper: int, told: str) -> None:
    path = tmp_path / "sketch.png"
    Image.new("L", (8, 8), paper).save(path)
    with pytest.raises(BadInput, match=f"{told} is painted"):
        Marking(sketch=path).add_to(asked(ImageStore(), "red"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.1,0.2,0.5", "is no box"),
        ("10,20,50,60", "less than or equal to 1"),
        ("0.5,0.2,0.1,0.6", "is empty"),
        ("nan,0,1,1", "finite number"),
        ("a,b,c,d", "valid number"),
    ],
)
def test_a_box_that_is_none_is_refused_with_an_example(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told) as refused:
        read_box(text)
    assert "0.1,0.2,0.5,0.6" in str(refused.value)


def test_several_places_stand_in_one_text() -> None:
    boxes, points = read_places(" 0.1,0.2,0.5,0.6  0.3, 0.25 0,0,1,1 ")
    assert boxes == ((0.1, 0.2, 0.5, 0.6), (0, 0, 1, 1))
    assert points == ((0.3, 0.25),)
    assert read_places("") == ((), ())
    with pytest.raises(BadInput, match="'half' is no box"):
        read_places("0.3,0.25 half")


def test_marks_need_an_image(tmp_path: Path) -> None:
    request = Conversation().ask("Blur this.")
    with pytest.raises(BadInput, match="give one with them"):
        Marking(points=(Position(0.5, 0.5),)).add_to(request)
    path = sketch(tmp_path / "sketch.png", mode="L", paper=0)
    with pytest.raises(BadInput, match="give one with it"):
        Marking(sketch=path).add_to(request)


def test_a_conversation_with_marks_reads_back_as_it_was(tmp_path: Path) -> None:
    path = sketch(tmp_path / "sketch.png", mode="L", paper=0)
    conversation = Marking(boxes=(Corners(0, 0, 0.5, 1),), sketch=path).add_to(
        asked(ImageStore(), "red")
    )
    assert Conversation.model_validate_json(conversation.model_dump_json()) == conversation
    assert json.loads(conversation.model_dump_json())["messages"][0]["marks"]["image"] == "img_1"
