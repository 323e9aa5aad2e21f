"""Pictures for the tests of skills: drawn here, or in the public domain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data


@pytest.fixture(autouse=True)
def _default_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No settings of the machine that the tests run on, and none of its folders."""
    monkeypatch.chdir(tmp_path_factory.mktemp("settings"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    for skill in ("OCR", "DETECT", "SEGMENT"):
        monkeypatch.delenv(f"LLAVA_PLUS_{skill}_BACKEND", raising=False)
    monkeypatch.delenv("LLAVA_PLUS_CONFIG", raising=False)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the settings of one skill: `settings("tag", most=2)`."""
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("LLAVA_PLUS_CONFIG", str(file))

    def write(skill: str, **options: object) -> None:
        # What JSON and TOML write alike: numbers, true and false, short texts.
        lines = [f"{key} = {json.dumps(value, default=str)}" for key, value in options.items()]
        file.write_text("\n".join([f"[skills.{skill}]", *lines]), encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """120 x 80 pixels from black above to white below."""
    return Image.linear_gradient("L").resize((120, 80)).convert("RGB")


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """Eileen Collins in 1999: one person, one face (NASA, public domain; in scikit-image)."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def write() -> Callable[..., Image.Image]:
    """Draw words at places: `write((400, 200), {(20, 30): "HELLO"})`."""

    def draw(
        size: tuple[int, int], words: dict[tuple[int, int], str], height: int = 32
    ) -> Image.Image:
        page = Image.new("RGB", size, "white")
        font = ImageFont.load_default(size=height)
        for place, text in words.items():
            ImageDraw.Draw(page).text(place, text, fill="black", font=font)
        return page

    return draw


@pytest.fixture(scope="session")
def qr_page() -> Callable[..., Image.Image]:
    """Draw QR codes at places on a white page of 1000 x 600."""

    def draw(codes: dict[tuple[int, int], str]) -> Image.Image:
        page = Image.new("RGB", (1000, 600), "white")
        for place, text in codes.items():
            modules = Image.fromarray(cv2.QRCodeEncoder.create().encode(text))
            size = (modules.width * 6, modules.height * 6)
            page.paste(modules.resize(size, Image.Resampling.NEAREST), place)
        return page

    return draw


@pytest.fixture(scope="session")
def ball() -> Image.Image:
    """A red ball, 120 pixels across, in the middle of 400 x 300 pixels of grass."""
    page = Image.effect_noise((400, 300), 30).convert("L")
    page = Image.merge("RGB", (page.point(lambda v: v // 4), page, page.point(lambda v: v // 4)))
    ImageDraw.Draw(page).ellipse((140, 90, 260, 210), fill=(220, 30, 30))
    return page
