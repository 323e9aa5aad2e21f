"""What `make demo` shows: requests on real images, answered by the embedded model and real skills.

The photograph is the portrait of Grace Hopper that comes inside matplotlib (US Navy, public
domain); the sign is drawn here. Every answer comes from `llava-plus ask`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFilter, ImageFont

OUT = Path("demo-out")
SIGN = ("Main Street", "NO PARKING", "Mon-Fri 8:00-18:30")
REQUESTS = [
    ("portrait.jpg", "How many faces are in this photo?"),
    ("sign.png", "What does the sign say?"),
    ("portrait.jpg", "Find the face and blur it."),
    ("portrait.jpg", "Make it black and white."),
    ("portrait.jpg", "Who are you?"),
]


def main() -> int:
    """Make the images, ask, and say how long it took; not 0 when a request failed."""
    OUT.mkdir(exist_ok=True)
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    Image.open(photograph).save(OUT / "portrait.jpg", quality=92)
    draw_sign().save(OUT / "sign.png")
    failed = 0
    for image, request in REQUESTS:
        click.secho(f'\n$ llava-plus ask {OUT / image} "{request}"', bold=True)
        started = time.monotonic()
        command = ["-m", "llava_plus.agent", "ask", "--out", str(OUT), str(OUT / image), request]
        failed += subprocess.run([sys.executable, *command], check=False).returncode != 0
        click.secho(f"({time.monotonic() - started:.1f} s, start-up included)", dim=True)
    click.echo(f"\nThe pictures are in {OUT}/." if not failed else f"\n{failed} requests failed.")
    return 1 if failed else 0


def draw_sign() -> Image.Image:
    """A street sign as a phone might photograph it: slightly turned, slightly soft."""
    plate = Image.new("RGB", (560, 300), (30, 70, 150))
    draw = ImageDraw.Draw(plate)
    draw.rectangle((8, 8, 551, 291), outline="white", width=4)
    for row, line in enumerate(SIGN):
        font = ImageFont.load_default(size=52)
        draw.text((280, 70 + 80 * row), line, fill="white", font=font, anchor="mm")
    wall = Image.new("RGB", (700, 440), (176, 160, 142))
    wall.paste(plate, (70, 70))
    turned = wall.rotate(-2, resample=Image.Resampling.BICUBIC, fillcolor=(176, 160, 142))
    return turned.filter(ImageFilter.GaussianBlur(0.7))


if __name__ == "__main__":
    sys.exit(main())
