"""Real workers for the tests: in a thread of this process, or as processes with toy skills."""

from __future__ import annotations

import inspect
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from llava_plus.skills import Skill
from llava_plus.skills.testing import serving_app
from llava_plus.skills.worker import create_app
from PIL import Image as Pillow

from . import toy_skills

TOYS = {
    name: toy
    for name, toy in vars(toy_skills).items()
    if inspect.isclass(toy) and issubclass(toy, Skill) and toy is not Skill
}


@contextmanager
def worker(*skills: Skill, ready: bool = True, **options: Any) -> Iterator[str]:
    """The URL of a worker that serves `skills` over a real socket."""
    with serving(create_app(skills, **options)) as url:
        deadline = time.monotonic() + 60
        while ready and httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < deadline, "the worker did not get ready"
            time.sleep(0.01)
        yield url


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of any app; toy skills that hang are released in the end."""
    try:
        with serving_app(app) as url:
            try:
                yield url
            finally:
                toy_skills.RELEASE.set()
    finally:
        toy_skills.RELEASE.clear()


def install_toys(folder: Path) -> str:
    """Install the toy skills into `folder`, as a package would; gives the PYTHONPATH to them."""
    info = folder / "toys-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 0\n")
    lines = [f"{toy.name} = toy_skills:{name}" for name, toy in TOYS.items()]
    (info / "entry_points.txt").write_text("\n".join(["[llava_plus.skills]", *lines]))
    return f"{folder}:{Path(__file__).parent}"


def png(colour: str = "blue", width: int = 8, height: int = 6) -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return buffer.getvalue()
