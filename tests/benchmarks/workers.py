"""What a worker saves: batches, models that skills share, images that are sent once.

    python -m tests.benchmarks.workers

Batches: 128 calls at once of `caption`, over HTTP, against the same backend that is given the
same images in batches in this process. Sharing: two skills on one model, in one worker and in
two. Images: bytes that reach a worker with one image for many calls.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import HttpDispatcher
from llava_plus.skills import ImageArgument, ImageRef, ImageStore, Skill, SkillOutput, SkillUse
from llava_plus.skills.backends.blip import BlipCaptioner
from llava_plus.skills.caption import Caption
from llava_plus.skills.describe_regions import DescribeRegions
from llava_plus.skills.runner import SkillRunner
from llava_plus.skills.worker import create_app, listen, server_config
from PIL import Image
from rich.console import Console

from ..skills.tiny_captioners import save_blip, save_florence2

BATCH = 8
CALLS = 128
ROUNDS = 2
CONSOLE = Console()


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        batching(Path(folder))
        sharing(Path(folder))
    sending()


# --- batches


def batching(folder: Path) -> None:
    """Compare calls that come singly over HTTP with batches made beforehand."""
    save_blip(folder / "blip", width=512, blocks=6, side=96)
    options = {"model": str(folder / "blip"), "beams": 1, "longest": 12}
    backend = BlipCaptioner(**options, batch=BATCH)
    backend.load("cpu")
    pictures = [_picture(number) for number in range(CALLS)]
    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    shown = "\n".join(f"{key} = {value!r}" for key, value in options.items()).replace("'", '"')
    store = ImageStore()
    refs = [store.add(picture) for picture in pictures]
    times: dict[str, list[float]] = {"offline": [], "batched": [], "singly": []}
    with (
        worker(["caption"], folder, f"[skills.caption]\n{shown}\nbatch = {BATCH}") as batched,
        worker(["caption"], folder, f"[skills.caption]\n{shown}\nbatch = 1") as singly,
    ):
        asyncio.run(_call_all(batched, refs, store))  # so that the images are there
        asyncio.run(_call_all(singly, refs, store))
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for start in range(0, CALLS, BATCH):
                backend.captions(images[start : start + BATCH])
            times["offline"].append(time.perf_counter() - began)
            times["batched"].append(asyncio.run(_call_all(batched, refs, store)))
            times["singly"].append(asyncio.run(_call_all(singly, refs, store)))
    rates = {name: CALLS / median(seconds) for name, seconds in times.items()}
    told = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    CONSOLE.print(f"captions a second, batches of {BATCH}: {told}")
    CONSOLE.print(
        f"  of the offline batches' throughput: {rates['batched'] / rates['offline']:.2f}"
    )


async def _call_all(url: str, refs: Sequence[ImageRef], store: ImageStore) -> float:
    """Seconds for one call of each image, all at once."""
    dispatcher = HttpDispatcher([url])

    async def call(ref: ImageRef) -> None:
        use = SkillUse(id="call_1", name="caption", arguments={"image": "img_1"})
        await dispatcher.dispatch(
            use, CallScope(images={"img_1": ref}, store=store, deadline=time.monotonic() + 300)
        )

    await dispatcher.specs()
    began = time.perf_counter()
    await asyncio.gather(*map(call, refs))
    seconds = time.perf_counter() - began
    await dispatcher.aclose()
    return seconds


# --- shared models


def sharing(folder: Path) -> None:
    """Compare the memory of two skills on one model in one process, and in two."""
    save_florence2(folder / "florence", width=512)
    model = f'backend = "florence2"\nmodel = "{folder / "florence"}"'
    settings = f"[skills.caption]\n{model}\n[skills.describe_regions]\n{model}"
    file = folder / "shared.toml"
    file.write_text(settings, encoding="utf-8")
    os.environ["LLAVA_PLUS_CONFIG"] = str(file)
    apart = sum(asyncio.run(_held([skill()])) for skill in (Caption, DescribeRegions))
    together = asyncio.run(_held([Caption(), DescribeRegions()]))
    CONSOLE.print(
        f"two skills on one model: {apart / 1e6:.0f} MB of weights in two workers, "
        f"{together / 1e6:.0f} MB in one"
    )


async def _held(skills: Sequence[Skill]) -> int:
    """Bytes of weights that the skills hold when they are set up in one process."""
    runner = SkillRunner(skills)
    await runner.setup()
    held = runner.held
    runner.close()
    return held


# --- images


class _Counting:
    """ASGI middleware that counts the bytes of the bodies that come in."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.received = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted() -> Any:
            message = await receive()
            self.received += len(message.get("body", b""))
            return message

        await self._app(scope, counted, send)


class Noop(Skill):
    """The skill that only looks at what it gets."""

    name = "noop"
    description = "Do nothing."

    def run(self, image: ImageArgument) -> SkillOutput:
        return _Nothing()


class _Nothing(SkillOutput):
    def summary(self) -> str:
        return "Nothing was done."


def sending(calls: int = 20) -> None:
    """Count what reaches a worker when one image is used by many calls."""
    store = ImageStore()
    ref = store.add(_picture(0, (1920, 1080)))
    counting = _Counting(create_app([Noop()]))
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(server_config(counting))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        asyncio.run(_call_again_and_again(url, ref, store, calls))
        server.should_exit = True
        thread.join()
    size = len(store.data(ref))
    CONSOLE.print(
        f"{calls} calls on one image of {size:,} bytes: {counting.received:,} bytes came, "
        f"{counting.received - size:,} of them beside the image"
    )


async def _call_again_and_again(url: str, ref: ImageRef, store: ImageStore, calls: int) -> None:
    dispatcher = HttpDispatcher([url])
    use = SkillUse(id="call_1", name="noop", arguments={"image": "img_1"})
    for _ in range(calls):
        await dispatcher.dispatch(
            use, CallScope(images={"img_1": ref}, store=store, deadline=time.monotonic() + 60)
        )
    await dispatcher.aclose()


# --- common


@contextmanager
def worker(names: Sequence[str], folder: Path, settings: str) -> Iterator[str]:
    """The URL of a worker process that serves the skills, once they are set up."""
    file = folder / f"{hash((*names, settings))}.toml"
    file.write_text(settings, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "llava_plus.skills.worker", *names, "--queue", str(CALLS)],
        stdout=subprocess.PIPE,
        env={**os.environ, "LLAVA_PLUS_CONFIG": str(file), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout
    url = json.loads(process.stdout.readline())["url"]
    try:
        while not httpx.get(f"{url}/readyz").json()["ready"]:
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.communicate()


def _picture(number: int, size: tuple[int, int] = (160, 120)) -> bytes:
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
