"""What `make demo` shows: requests on real images, answered by the embedded model and real skills.

The photograph is the portrait of Grace Hopper that comes inside matplotlib (US Navy, public
domain); the receipt is drawn here. Every answer comes from `llava-plus ask`.
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
RECEIPT = """CORNER BAKERY
12 High Street
2 x Sourdough      9.00
1 x Apple cake     4.50
Coffee             3.20
TOTAL             16.70
Thank you!"""
REQUESTS = [
    ("portrait.jpg", "How many faces are in this photo?"),
    ("receipt.png", "What does this receipt say?"),
    ("portrait.jpg", "Blur the face so that nobody recognizes her."),
    ("portrait.jpg", "Make it black and white, please."),
    ("portrait.jpg", "Thank you, that was very helpful!"),
]


def main() -> int:
    """Make the images, ask, and say how long it took; not 0 when a request failed."""
    OUT.mkdir(exist_ok=True)
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    Image.open(photograph).save(OUT / "portrait.jpg", quality=92)
    draw_receipt().save(OUT / "receipt.png")
    failed = 0
    for image, request in REQUESTS:
        click.secho(f'\n$ llava-plus ask {OUT / image} "{request}"', bold=True)
        started = time.monotonic()
        command = ["-m", "llava_plus.agent", "ask", "--out", str(OUT), str(OUT / image), request]
        failed += subprocess.run([sys.executable, *command], check=False).returncode != 0
        click.secho(f"({time.monotonic() - started:.1f} s, start-up included)", dim=True)
    click.echo(f"\nThe pictures are in {OUT}/." if not failed else f"\n{failed} requests failed.")
    return 1 if failed else 0


def draw_receipt() -> Image.Image:
    """A receipt as a phone might photograph it: slightly turned, slightly soft."""
    paper = Image.new("RGB", (560, 480), (238, 236, 230))
    font = ImageFont.load_default(size=30)
    draw = ImageDraw.Draw(paper)
    for row, line in enumerate(RECEIPT.splitlines()):
        name, _, price = line.rpartition("  ")
        draw.text((40, 40 + 56 * row), (name or line).strip(), fill=(30, 30, 40), font=font)
        if name:
            draw.text((500, 40 + 56 * row), price, fill=(30, 30, 40), font=font, anchor="ra")
    table = Image.new("RGB", (700, 620), (120, 86, 58))
    table.paste(paper, (70, 70))
    turned = table.rotate(-2, resample=Image.Resampling.BICUBIC, fillcolor=(120, 86, 58))
    return turned.filter(ImageFilter.GaussianBlur(0.7))


if __name__ == "__main__":
    sys.exit(main())
