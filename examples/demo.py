"""What `make demo` shows: requests on real images, answered by the embedded model and real skills.

The photograph is the portrait of Grace Hopper that comes inside matplotlib (US Navy, public
domain); the sign is drawn here. Every answer is that of `llava-plus ask IMAGE REQUEST`, which
would load the model anew for each; here one session takes all the turns.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click
from llava_plus.agent.commands.narrator import Narrator
from llava_plus.agent.commands.requests import Asked, Request, answer_request
from llava_plus.agent.outputs import Outputs
from llava_plus.agent.session import SessionOptions, open_session
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
    failed = asyncio.run(answer_all())
    if failed:
        click.echo(f"\n{failed} requests failed.")
        return 1
    click.echo(f"\nThe pictures are in {OUT}/. Ask about your own, or open the chat:")
    click.echo('  .venv/bin/llava-plus ask PICTURE "What does it say?"\n  make serve')
    return 0


async def answer_all() -> int:
    """Answer the requests, each in a conversation of its own; gives how many failed."""
    failed = 0
    began = time.monotonic()
    async with open_session(SessionOptions(lmm="embedded")) as session:
        click.secho(f"(model and skills ready after {time.monotonic() - began:.1f} s)", dim=True)
        for image, words in REQUESTS:
            click.secho(f"\n{OUT / image}: {words}", bold=True)
            request = Request(request=words, images=(OUT / image,))
            asked = Asked.of(request, plan=False).offering(session.skills)
            outputs = Outputs(OUT, Path(image).stem)
            answered = await answer_request(asked, session, outputs, Narrator())
            click.secho(f"({answered.report['timings']['seconds']:.1f} s)", dim=True)
            if answered.error:
                click.secho(f"error: {answered.error}", fg="red", err=True)
                failed += 1
    return failed


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
