"""Small rendered images whose look is known: what the vision tower first learns to see."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["COLOURS", "Scene", "render_scene"]

Colour = tuple[int, int, int]

SIZE = 96
COLOURS = {
    "red": (205, 40, 40),
    "green": (45, 150, 60),
    "blue": (45, 85, 200),
    "yellow": (240, 210, 50),
    "orange": (240, 140, 40),
    "purple": (130, 60, 160),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "grey": (130, 130, 130),
    "pink": (240, 150, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")


@dataclass(frozen=True)
class Scene:
    """An image and the true answers about it, by what is asked (`colour`, `light`, ...)."""

    image: Image
    answers: dict[str, str]

    @property
    def words(self) -> dict[str, str]:
        """The word of each answer that matters: `red` of `The star is red.`, `3` of a count."""
        return {
            asked: next(
                (word for word in answer.split() if word.isdigit()), answer.split()[-1][:-1]
            )
            for asked, answer in self.answers.items()
        }


def render_scene(rng: random.Random) -> Scene:
    """Draw one scene: a drawing of a shape, a document, a chart, or something like a photo."""
    kind = rng.choice(("drawing", "drawing", "drawing", "document", "chart", "photo"))
    draw = {"drawing": _drawing, "document": _document, "chart": _chart, "photo": _photo}[kind]
    scene = draw(rng)
    return Scene(scene.image, {"kind": f"It is a {kind}.", **scene.answers})


def _canvas(colour: Colour) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIZE, SIZE), colour)
    return image, ImageDraw.Draw(image)


def _near(colour: Colour, rng: random.Random, spread: int = 18) -> Colour:
    red, green, blue = (min(255, max(0, part + rng.randint(-spread, spread))) for part in colour)
    return red, green, blue


def _drawing(rng: random.Random) -> Scene:
    """One shape on a plain ground, or now and then several like it."""
    behind, front = rng.sample(sorted(COLOURS), 2)
    image, draw = _canvas(_near(COLOURS[behind], rng))
    shape = rng.choice(SHAPES)
    if (count := rng.choice((1, 1, 1, 2, 3, 4))) > 1:
        for corner in rng.sample(range(4), count):
            x, y = 24 + 48 * (corner % 2), 24 + 48 * (corner // 2)
            radius = rng.randint(10, 20)
            _draw_shape(draw, shape, x, y, radius, _near(COLOURS[front], rng))
        answers = {
            "count": f"There are {count} {shape}{'e' * shape.endswith('s')}s.",
            "background": f"The background is {behind}.",
        }
        return Scene(image, answers)
    radius = rng.randint(16, 36)
    x, y = rng.randint(radius + 4, SIZE - radius - 4), rng.randint(radius + 4, SIZE - radius - 4)
    _draw_shape(draw, shape, x, y, radius, _near(COLOURS[front], rng))
    article = "an" if front == "orange" else "a"
    answers = {
        "shape": f"It is {article} {front} {shape}.",
        "colour": f"The {shape} is {front}.",
        "background": f"The background is {behind}.",
        "count": f"There is 1 {shape}.",
    }
    return Scene(image, answers)


def _draw_shape(draw: ImageDraw, shape: str, x: int, y: int, radius: int, colour: Colour) -> None:
    import math

    def ring(points: int, sizes: tuple[float, ...]) -> list[tuple[float, float]]:
        angles = [math.tau * index / points - math.pi / 2 for index in range(points)]
        return [
            (
                x + radius * sizes[index % len(sizes)] * math.cos(angle),
                y + radius * sizes[index % len(sizes)] * math.sin(angle),
            )
            for index, angle in enumerate(angles)
        ]

    third = radius // 3
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "cross":
        draw.rectangle((x - radius, y - third, x + radius, y + third), fill=colour)
        draw.rectangle((x - third, y - radius, x + third, y + radius), fill=colour)
    else:
        points = ring(3, (1.0,)) if shape == "triangle" else ring(10, (1.0, 0.45))
        draw.polygon(points, fill=colour)


def _document(rng: random.Random) -> Scene:
    image, draw = _canvas(_near((244, 242, 236), rng, 8))
    y = rng.randint(6, 14)
    while y < SIZE - 6:
        x, stop = 8, SIZE - rng.randint(8, 40)
        while x < stop:
            width = rng.randint(3, 12)
            draw.rectangle((x, y, min(x + width, stop), y + 2), fill=_near((60, 60, 60), rng, 30))
            x += width + 3
        y += rng.choice((6, 7, 7, 12))
    return Scene(image, {"background": "The background is white."})


def _chart(rng: random.Random) -> Scene:
    image, draw = _canvas((255, 255, 255))
    draw.line((12, 8, 12, 84), fill=(40, 40, 40), width=2)
    draw.line((12, 84, 90, 84), fill=(40, 40, 40), width=2)
    colour = _near(COLOURS[rng.choice(("red", "green", "blue", "orange", "purple"))], rng)
    heights = [rng.randint(10, 70) for _ in range(rng.randint(3, 7))]
    step = 74 // len(heights)
    if rng.random() < 0.5:
        for index, height in enumerate(heights):
            left = 16 + index * step
            draw.rectangle((left, 84 - height, left + step * 2 // 3, 83), fill=colour)
    else:
        points = [(18 + index * step, 84 - height) for index, height in enumerate(heights)]
        draw.line(points, fill=colour, width=2)
    return Scene(image, {"background": "The background is white."})


def _photo(rng: random.Random) -> Scene:
    """Smooth colour patches with light falling off, as photographs look when they are small."""
    import numpy as np
    from PIL import Image, ImageFilter

    dark = rng.random() < 0.5
    level = 55 if dark else 215
    image, draw = _canvas(_near((level, level, level), rng, 25))
    for _ in range(rng.randint(6, 16)):
        x, y, radius = rng.randint(0, SIZE), rng.randint(0, SIZE), rng.randint(8, 40)
        colour = _near((level, level, level), rng, 50)
        draw.ellipse((x - radius, y - radius // 2, x + radius, y + radius // 2), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 3.0)))
    # Not Pillow's effect_noise: it cannot be seeded.
    grain = np.random.default_rng(rng.getrandbits(32)).normal(128, 24, (SIZE, SIZE))
    noise = Image.fromarray(grain.clip(0, 255).astype(np.uint8)).convert("RGB")
    image = Image.blend(image, noise, 0.08)
    return Scene(image, {"light": f"It is {'dark' if dark else 'bright'}."})
