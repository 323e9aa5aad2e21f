"""Tiny skills for the tests: one for each way in which a skill can behave or misbehave."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from llava_plus.skills import (
    ImageArgument,
    Mask,
    MaskArgument,
    Skill,
    SkillOutput,
    report_progress,
)
from llava_plus.skills.errors import SkillFailed
from PIL import Image as Pillow
from PIL import ImageDraw
from pydantic import Field

RELEASE = threading.Event()
"""Ends every call of `hang` in this process."""

SEEN_DEADLINES: list[float] = []


class Said(SkillOutput):
    said: str

    def summary(self) -> str:
        return self.said


class Noop(Skill):
    name = "noop"
    description = "Do nothing."
    parallel = 4

    def run(self, text: str = "", image: ImageArgument | None = None) -> Said:
        return Said(said=text)


class Look(Skill):
    name = "look"
    description = "Tell the size and the first pixel of an image."
    parallel = 2

    def run(self, image: ImageArgument) -> Said:
        return Said(said=f"{image.width} x {image.height}, {image.getpixel((0, 0))}")


class Scribble(Skill):
    name = "scribble"
    description = "Draw on the very image that was given."

    def run(self, image: ImageArgument) -> Said:
        ImageDraw.Draw(image).rectangle((0, 0, image.width, image.height), fill="red")
        return Said(said="done")


class Painted(SkillOutput):
    picture: Any = Field(exclude=True)

    def summary(self) -> str:
        return "One image was made."

    def images(self) -> Iterator[tuple[str, Pillow.Image]]:
        yield "a colour", self.picture


class Paint(Skill):
    name = "paint"
    description = "Make an image of one colour."

    def run(self, colour: str, width: int = 8) -> Painted:
        return Painted(picture=Pillow.new("RGB", (width, 8), colour))


class Covered(SkillOutput):
    area: float
    mask: Mask = Field(exclude=True)

    def summary(self) -> str:
        return f"It covers {self.area:.0%}."

    def masks(self) -> Iterator[tuple[str, Mask]]:
        yield "the same", self.mask


class Cover(Skill):
    name = "cover"
    description = "Tell how much a mask covers."

    def run(self, mask: MaskArgument) -> Covered:
        return Covered(area=mask.area, mask=mask)


class Hang(Skill):
    name = "hang"
    description = "Never come back."

    def run(self) -> Said:
        RELEASE.wait()
        return Said(said="released")


class Slow(Skill):
    name = "slow"
    description = "Take a while."

    def __init__(self) -> None:
        self.runs = 0

    def run(self, seconds: float) -> Said:
        self.runs += 1
        time.sleep(seconds)
        return Said(said=str(self.runs))


class Climb(Skill):
    name = "climb"
    description = "Take some steps, and tell of each; `end` is said, or what happens then."

    def run(self, steps: int, pause: float = 0.0, end: str = "there") -> Said:
        for step in range(steps):
            report_progress(step + 1, steps)
            time.sleep(pause)
        match end:
            case "fail":
                raise SkillFailed("the last step is missing")
            case "hang":
                RELEASE.wait()
        return Said(said=end)


class Nonsense(Skill):
    name = "nonsense"
    description = "Return what is not a SkillOutput."

    def run(self) -> SkillOutput:
        return 42  # type: ignore[return-value]


class Unwritable(Skill):
    name = "unwritable"
    description = "Return what cannot be written as JSON."

    def run(self, surrogate: bool = False) -> Said:
        class Odd(Said):
            thing: Any

        return Odd(said="odd", thing="\ud800" if surrogate else object())


class Refuse(Skill):
    name = "refuse"
    description = "Fail in the way that skills should."

    def run(self) -> Said:
        raise SkillFailed("there is nothing to find here")


class Crash(Skill):
    name = "crash"
    description = "Fail in ways that skills should not."

    def run(self, leave: bool = False) -> Said:
        if leave:
            sys.exit("goodbye")
        raise RuntimeError("a secret is in the traceback")


class Die(Skill):
    name = "die"
    description = "Take the whole process down."

    def run(self) -> Said:
        time.sleep(0.1)
        os._exit(7)


class Unready(Skill):
    name = "unready"
    description = "Cannot be set up."

    def setup(self, device: str) -> None:
        sys.stderr.write("looking for weights\n")
        raise OSError("the weights are not there")

    def run(self) -> Said:
        return Said(said="never")


class Waking(Skill):
    name = "waking"
    description = "Take a while to be set up."

    def __init__(self) -> None:
        self.woken = threading.Event()

    def setup(self, device: str) -> None:
        self.woken.wait(10)

    def run(self) -> Said:
        return Said(said="awake")
