"""Draws one answered request as a picture, the way README shows it.

python examples/picture.py demo-out/portrait.jpg "Find the face and blur it." answer.png
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw, ImageFont

HEIGHT, MARGIN, COLUMN = 420, 24, 620
INK, SOFT, CALL = (34, 34, 40), (110, 110, 120), (24, 92, 160)


@click.command()
@click.argument("image", type=click.Path(exists=True, path_type=Path))
@click.argument("request_text")
@click.argument("target", type=click.Path(path_type=Path))
def main(image: Path, request_text: str, target: Path) -> None:
    """Ask REQUEST_TEXT about IMAGE and draw the images, calls, results and answer to TARGET."""
    with tempfile.TemporaryDirectory() as out:
        command = ["-m", "llava_plus.agent", "ask", "--json", "--out", out, str(image)]
        done = subprocess.run(
            [sys.executable, *command, request_text], check=True, capture_output=True, text=True
        )
        told = json.loads(done.stdout)
        pictures = [Image.open(path).convert("RGB") for path in shown(told)]
    compose(pictures, lines(told, request_text)).save(target, optimize=True)
    click.echo(target)


def shown(told: dict[str, Any]) -> list[str]:
    """The annotated images when there are any, else the asked one; then what was made."""
    made = [path for handle, path in told["images"].items() if handle != "img_1"]
    found = list(told["annotated"].values()) or [told["images"]["img_1"]]
    return [found[0], *made][:2]


def lines(told: dict[str, Any], request_text: str) -> list[tuple[str, tuple[int, int, int]]]:
    """The conversation as coloured lines."""
    rows = [(f"> {request_text}", INK)]
    for message in told["messages"]:
        for call in message.get("tool_calls", ()):
            rows.append((f"{call['function']['name']} {call['function']['arguments']}", CALL))
        if message["role"] == "tool":
            rows.append((str(message["content"]), SOFT))
    return [*rows, (told["answer"], INK)]


def compose(
    pictures: list[Image.Image], rows: list[tuple[str, tuple[int, int, int]]]
) -> Image.Image:
    """Pictures side by side at one height, the conversation to their right."""
    scaled = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT)) for p in pictures]
    width = sum(p.width + MARGIN for p in scaled) + COLUMN + 2 * MARGIN
    canvas = Image.new("RGB", (width, HEIGHT + 2 * MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=19)
    left = MARGIN
    for picture in scaled:
        canvas.paste(picture, (left, MARGIN))
        left += picture.width + MARGIN
    top = MARGIN
    for text, colour in rows:
        for line in text.splitlines():
            for part in textwrap.wrap(line, 62) or [""]:
                draw.text((left, top), part, fill=colour, font=font)
                top += 26
        top += 10
    return canvas


if __name__ == "__main__":
    main()
