"""What the tests of the page share: a server, a browser, a tab, a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, sync_playwright

from .served_page import CHROMIUM, Server, Tab, opened, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        with served(folder) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def tab(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Tab]:
    size = getattr(request, "param", {"width": 1200, "height": 860})
    with opened(server, browser, viewport=size) as tab:
        yield tab


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = Image.new("RGB", (320, 240), "skyblue")
    ImageDraw.Draw(image).ellipse((80, 60, 240, 180), fill="orange")
    path = tmp_path_factory.mktemp("pictures") / "disc.png"
    image.save(path)
    return path
