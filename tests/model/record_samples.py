"""Records of a few kinds with their images, in a file, for tests of training."""

from __future__ import annotations

import random
from pathlib import Path

from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.record import Record
from llava_plus.skills import ImageRef, ImageStore, SkillResult, SkillSpec, SkillUse
from PIL import Image

__all__ = ["conversation", "write_records"]

_SPEC = SkillSpec(
    name="detect",
    description="Find things.",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string"}, "image": {"type": "string"}},
        "required": ["query", "image"],
    },
)


def write_records(path: Path, count: int, *, start: int = 0) -> Path:
    """A file of records with calls and answers, about one image, several or none."""
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    lines = []
    for number in range(start, start + count):
        talk, files = conversation(number, images)
        lines.append(Record.of(talk, files, id=f"r{number}").to_line())
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def conversation(number: int, images: Path) -> tuple[Conversation, dict[str, str]]:
    """A conversation that follows from its number, and its image files by handle."""
    drawn = random.Random(number)
    if number % 4 == 3:
        talk = Conversation(skills=(_SPEC,)).ask(f"Say {number} twice.")
        return talk.reply(AssistantMessage(text=f"{number} {number}")), {}
    store = ImageStore()
    files: dict[str, str] = {}

    def image(handle: str) -> ImageRef:
        path = images / f"{number}-{handle}.png"
        colour = tuple(drawn.randrange(256) for _ in range(3))
        Image.new("RGB", (56 + 28 * (number % 2), 56), colour).save(path)
        files[handle] = f"images/{path.name}"
        return store.add(path.read_bytes())

    talk = Conversation(skills=(_SPEC,))
    talk = talk.ask("What is in it? " + "really " * drawn.randrange(6), [image("img_1")])
    use = SkillUse(id="call_1", name="detect", arguments={"query": "a dog", "image": "img_1"})
    talk = talk.reply(AssistantMessage(skill_uses=(use,)))
    talk = talk.add_result(SkillResult(id="call_1", name="detect", text=f"{number} dogs"))
    talk = talk.reply(AssistantMessage(text=f"There are {number} dogs."))
    if number % 4 == 1:
        talk = talk.ask("And in this?", [image("img_2")])
        talk = talk.reply(AssistantMessage(text="A red car."))
    return talk, files
