"""The chat page in a real browser: a scripted LMM, real skills, a real store."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from llava_plus.agent.chats import Chats
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.agent.gateway.app import create_app
from llava_plus.agent.page.escaping import answer, fenced, literal
from llava_plus.agent.page.marking import Kind, read_drawing
from llava_plus.agent.settings import Settings
from llava_plus.agent.store.store import open_store
from llava_plus.agent.store.values import KeptTurn, TurnState, Vote
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage, UserMessage
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.adjust import Adjust
from llava_plus.skills.crop import Crop
from llava_plus.skills.errors import BadInput, WorkerUnavailable
from llava_plus.skills.worker import listen, server_config
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from ..toy_skills import Climb, Noop

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")
PATIENCE = 15_000
HOSTILE = (
    '<img src=x onerror="window.hurt=1"><script>window.hurt=2</script> '
    "![](http://127.0.0.1:1/x) ``` [a](javascript:window.hurt=3) **b**"
)


def say(seen: Conversation) -> Scripted:
    """What a request asks for by its first word, on the newest image."""
    last = seen.messages[-1]
    if isinstance(last, SkillMessage):
        return f"So it is: {last.result.text}"
    assert isinstance(last, UserMessage)
    newest = list(seen.images)[-1] if seen.images else ""
    match last.text.split()[0]:
        case "Grey":
            return call("adjust", operation="grayscale", image=newest)
        case "Cut":
            assert last.marks is not None
            return call("crop", image=newest, box=list(last.marks.boxes[0]))
        case "Repeat":
            return call("noop", text=HOSTILE)
        case "Climb":
            return call("climb", steps=600, pause=0.1)
        case "Fail" if not any(isinstance(m, AssistantMessage) for m in seen.messages):
            raise WorkerUnavailable("no <b>worker</b> answers")
    return f"That is *number {len(seen.messages)}*."


def call(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id="a", name=name, arguments=arguments)


@dataclass
class Server:
    """A gateway with its page, and what its store keeps."""

    url: str
    chats: Chats
    loop: asyncio.AbstractEventLoop

    def turns(self, count: int = 1) -> list[KeptTurn]:
        """The turns of the conversation last gone on with, as soon as so many have ended."""

        async def read() -> list[KeptTurn]:
            while True:
                kept = await self.chats.store.conversations("local", limit=1)
                turns = await self.chats.store.turns(kept[0].id, "local")
                if len(turns) >= count and turns[-1].state is not TurnState.RUNNING:
                    return turns
                await asyncio.sleep(0.05)

        return asyncio.run_coroutine_threadsafe(read(), self.loop).result(PATIENCE / 1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        with served(folder) as running:
            yield running


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    running: list[tuple[uvicorn.Server, Server]] = []
    ready = threading.Event()

    async def serve(url: str, listening: Any) -> None:
        places = f"sqlite+aiosqlite:///{folder}/chats.sqlite", str(folder / "artifacts")
        async with open_store(*places) as store:
            dispatcher = LocalDispatcher([Adjust(), Crop(), Noop(), Climb()])
            lmm = ScriptedLMM([say] * 200)
            chats = Chats(store, {"scripted": lmm}, dispatcher, await dispatcher.specs())
            app = uvicorn.Server(server_config(create_app(chats, Settings())))
            running.append((app, Server(url, chats, asyncio.get_running_loop())))
            ready.set()
            await app.serve(sockets=[listening])
            await chats.aclose()
            await dispatcher.aclose()

    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(serve(url, listening)))
        thread.start()
        while not ready.wait(0.05):
            assert thread.is_alive(), "the gateway did not start"
        app, server = running[0]
        try:
            yield server
        finally:
            app.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A tab with the page in it, and everything that it asked the network for."""

    page: Page
    asked_for: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def chat(self) -> Locator:
        return self.page.locator("#chat")

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def ask(self, text: str, *files: Path) -> None:
        if files:
            self.find("#entry input[type=file]").set_input_files(files)
            expect(self.find("#entry .thumbnail-item")).to_have_count(len(files))
        self.find("#entry textarea").fill(text)
        self.find("#entry textarea").press("Enter")

    def done(self, text: str) -> None:
        """Wait for an answer, and until another request can be sent."""
        expect(self.chat.get_by_text(text).last).to_be_visible()
        expect(self.find("#reword")).to_be_visible()


@pytest.fixture
def tab(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Tab]:
    size = getattr(request, "param", {"width": 1200, "height": 860})
    context = browser.new_context(viewport=size, accept_downloads=True)
    tab = Tab(context.new_page())
    tab.page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    tab.page.on("request", lambda asked: tab.asked_for.append(asked.url))
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.goto(server.url)
    expect(tab.find("#entry textarea")).to_be_visible()
    yield tab
    context.close()
    elsewhere = [url for url in tab.asked_for if not url.startswith((server.url, "blob:", "data:"))]
    assert not elsewhere, "the page asks nobody but its own server"
    assert not tab.errors


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = Image.new("RGB", (320, 240), "skyblue")
    ImageDraw.Draw(image).ellipse((80, 60, 240, 180), fill="orange")
    path = tmp_path_factory.mktemp("pictures") / "disc.png"
    image.save(path)
    return path


@needs_browser
def test_a_picture_is_changed_and_all_of_it_is_there_after_reloading(
    tab: Tab, server: Server, picture: Path
) -> None:
    tab.ask("Grey it, please.", picture)
    tab.done("So it is: Converted the image to grayscale.")
    fold = tab.chat.locator(".thought-group")
    expect(fold.locator(".title")).to_contain_text("adjust")
    fold.locator(".title").click()
    expect(fold).to_contain_text('"operation": "grayscale"')
    expect(fold).to_contain_text("Converted the image to grayscale.")
    tab.find("#change-box > button").click()
    expect(tab.find("#change img")).to_have_count(2)
    expect(tab.chat.get_by_alt_text("img_1, given with the request")).to_be_visible()
    expect(tab.chat.get_by_alt_text("made by adjust")).to_be_visible()

    tab.chat.get_by_label("Like", exact=True).click()
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    tab.page.reload()
    tab.done("So it is: Converted the image to grayscale.")
    expect(tab.chat.locator("img")).to_have_count(2)
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    [turn] = server.turns()
    assert turn.vote is Vote.UP
    assert turn.conversation in tab.page.url


@needs_browser
def test_a_conversation_is_renamed_flagged_and_deleted_with_its_pictures(
    tab: Tab, server: Server, picture: Path
) -> None:
    own = picture.with_name("own.png")
    Image.new("RGB", (64, 48), "teal").save(own)
    tab.ask("Grey it, please.", own)
    tab.done("So it is: Converted the image to grayscale.")
    assert shown(own), "gradio keeps the upload"
    tab.chat.get_by_label("Feedback").focus()
    tab.chat.get_by_role("button", name="Flag").click()
    comment = tab.find("#comment textarea, #comment input")
    expect(comment).to_be_visible()
    tab.page.wait_for_timeout(500)  # the field is emptied after it is shown
    comment.fill("not my picture")
    comment.press("Enter")
    expect(tab.find("#comment")).not_to_be_visible()
    [turn] = server.turns()
    assert (turn.vote, turn.comment) == (Vote.FLAG, "not my picture")

    tab.find("#manage > button").click()
    tab.find("#title textarea, #title input").fill("Teal sheet")
    tab.page.get_by_role("button", name="Rename", exact=True).click()
    expect(tab.find("#history")).to_contain_text("Teal sheet")
    urls = [image.get_attribute("src") or "" for image in tab.chat.locator("img").all()]
    assert [tab.page.request.get(url).status for url in urls] == [200, 200]
    tab.page.get_by_role("button", name="Delete", exact=True).click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.find("#history")).not_to_contain_text("Teal sheet")
    expect(tab.chat.get_by_text("What shall we look at?")).to_be_visible()
    assert not shown(own)
    assert not any(tab.page.request.get(url).ok for url in urls)


def shown(upload: Path) -> list[Path]:
    """The copies of an upload in the folder that gradio serves."""
    return list(Path(os.environ["GRADIO_TEMP_DIR"]).glob(f"*/{upload.name}"))


@needs_browser
@pytest.mark.parametrize("tab", [{"width": 1200, "height": 560}], indirect=True)
def test_the_answer_is_in_sight_below_large_pictures_until_somebody_scrolls(
    tab: Tab, picture: Path
) -> None:
    tab.ask("Grey it, please.", picture, picture)
    tab.done("So it is: Converted the image to grayscale.")
    answer = tab.chat.get_by_text("So it is: Converted").last
    expect(answer).to_be_in_viewport()
    tab.chat.hover()
    tab.page.mouse.wheel(0, -2000)
    expect(answer).not_to_be_in_viewport()
    tab.chat.locator(".thought-group .title").click()
    expect(answer).not_to_be_in_viewport()


# A small window, for browsers without a GPU compute every pixel of the canvas again and again.
@needs_browser
@pytest.mark.parametrize("tab", [{"width": 500, "height": 860}], indirect=True)
def test_a_box_that_is_drawn_reaches_the_skill(tab: Tab, server: Server, picture: Path) -> None:
    tab.find("#entry input[type=file]").set_input_files(picture)
    tab.find("#mark-box > button").click()
    canvas = tab.find("#canvas canvas").first
    # Below the canvas it says at which scale the picture stands there.
    expect(tab.find("#canvas")).to_contain_text("%")
    tab.page.wait_for_timeout(1500)  # the canvas draws when it likes, and tells nobody
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place is not None
    middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    mouse = tab.page.mouse
    mouse.move(middle[0] - 40, middle[1] - 30)
    mouse.down()
    mouse.move(middle[0] + 40, middle[1] + 30, steps=6)
    mouse.up()
    tab.page.wait_for_timeout(500)
    tab.ask("Cut it out.")
    tab.done("So it is: Cut out")

    expect(canvas).not_to_be_visible()
    [turn] = server.turns()
    asked, called = turn.messages[0], turn.messages[1]
    assert isinstance(asked, UserMessage)
    assert isinstance(called, AssistantMessage)
    assert asked.marks is not None
    box = asked.marks.boxes[0]
    assert called.skill_uses[0].arguments["box"] == list(box)
    assert ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) == pytest.approx((0.5, 0.5), abs=0.06)
    assert 0.03 < box.area < 0.3
    # The picture with the mark on it, and the part that was cut out.
    expect(tab.chat.locator("img")).to_have_count(2)
    tab.find(".sidebar .toggle-button").click()
    tab.find("#settings > button").click()
    marked = tab.chat.locator("img").first.get_attribute("src")
    tab.find("#drawings input").uncheck()
    expect(tab.chat.locator("img").first).not_to_have_attribute("src", marked or "")


@needs_browser
def test_text_of_skills_and_models_is_shown_and_never_run(tab: Tab) -> None:
    tab.ask(f"Repeat {HOSTILE}")
    tab.done("So it is:")
    tab.chat.locator(".thought-group .title").click()
    expect(tab.chat.locator(".thought-group pre").last).to_contain_text(HOSTILE)
    expect(tab.chat.locator('[data-testid="user"]')).to_contain_text(HOSTILE)
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate("window.hurt") is None
    assert tab.chat.locator("img, script").count() == 0
    assert tab.chat.locator('a[href^="javascript"]').count() == 0
    expect(tab.find("#history")).to_contain_text("<img src=x onerror=")


@needs_browser
def test_a_request_is_repeated_reworded_and_branched_off(tab: Tab, server: Server) -> None:
    tab.ask("First")
    tab.done("That is number 1.")
    tab.chat.get_by_label("Retry").click()
    assert len(server.turns(2)) == 2
    tab.done("That is number 1.")
    tab.find("#reword").click()
    expect(tab.find("#entry textarea")).to_have_value("First")
    tab.ask("Second")
    expect(tab.chat).to_contain_text("Second")
    tab.done("That is number 1.")
    tab.find("#branches-box > button").click()
    tab.find("#branches label").first.click()
    expect(tab.chat).not_to_contain_text("Second")
    tab.ask("Third")
    tab.done("That is number 3.")
    turns = server.turns()
    asked = [turn.messages[0] for turn in turns]
    assert [m.text for m in asked if isinstance(m, UserMessage)] == [
        "First", "First", "Second", "Third",
    ]  # fmt: skip
    assert [turn.parent for turn in turns] == [None, None, None, turns[0].id]

    tab.find("#download > button").click()
    with tab.page.expect_download() as packed:
        tab.find("#archive").click()
    with zipfile.ZipFile(packed.value.path()) as archive:
        assert archive.namelist() == ["record.jsonl"]
        assert '"Third"' in archive.read("record.jsonl").decode()


@needs_browser
def test_what_failed_is_told_and_what_runs_is_stopped(tab: Tab, server: Server) -> None:
    tab.ask(" ")
    expect(tab.find("#notice")).to_contain_text("the request is empty")
    tab.ask("Fail please.")
    expect(tab.find("#notice")).to_have_count(0)
    tab.done("no <b>worker</b> answers")
    assert server.turns()[0].state is TurnState.FAILED
    tab.find("#again").click()
    assert len(server.turns(2)) == 2
    tab.done("no <b>worker</b> answers")
    tab.ask("Climb")
    expect(tab.chat.get_by_text("of 600 steps")).to_be_visible()
    tab.page.keyboard.press("Escape")
    tab.done("Stopped before the answer.")
    assert server.turns()[-1].state is TurnState.STOPPED


@needs_browser
@pytest.mark.parametrize("tab", [{"width": 390, "height": 780}], indirect=True)
def test_it_fits_a_phone(tab: Tab) -> None:
    tab.find("#chat button.example").first.click()
    tab.done("That is number 1.")
    expect(tab.chat.locator("img")).to_have_count(1)
    widths = tab.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] == widths[1]
    expect(tab.find("#entry textarea")).to_be_in_viewport()
    expect(tab.find("#side")).not_to_be_in_viewport()
    tab.find(".sidebar .toggle-button").click()
    tab.find("#new").click()
    expect(tab.chat.get_by_text("What shall we look at?")).to_be_visible()
    expect(tab.find("#side")).not_to_be_in_viewport()


def drawn(*strokes: tuple[int, int, int, int], outline: bool = False) -> dict[str, Any]:
    """A canvas of 100 x 80 with rectangles drawn on it."""
    layer = Image.new("RGBA", (100, 80))
    pen = ImageDraw.Draw(layer)
    for corners in strokes:
        pen.rectangle(corners, fill=None if outline else "red", outline="red", width=2)
    return {"layers": [layer]}


def test_drawings_become_boxes_points_and_areas() -> None:
    canvas = drawn((20, 16, 59, 47), outline=True)
    assert read_drawing(canvas, Kind.BOX, (200, 160)).boxes == ((0.2, 0.2, 0.6, 0.6),)
    assert read_drawing(canvas, Kind.POINT, (200, 160)).points == ((0.4, 0.4),)
    [mask] = read_drawing(canvas, Kind.AREA, (200, 160)).masks
    expected = np.zeros((160, 200), dtype=bool)
    expected[32:96, 40:120] = True
    assert (mask.array() == expected).all()
    [two] = read_drawing(drawn((0, 0, 9, 9), (90, 70, 99, 79)), Kind.AREA, (100, 80)).masks
    assert two.area == pytest.approx(200 / 8000)
    nothing = read_drawing({"layers": [Image.new("RGBA", (100, 80))]}, Kind.BOX, (10, 10))
    assert nothing == read_drawing(None, Kind.AREA, (10, 10))
    assert not any((nothing.boxes, nothing.points, nothing.masks))


def test_marks_apart_from_each_other_are_several_and_strokes_of_one_box_are_one() -> None:
    canvas = drawn((60, 40, 79, 59), (10, 8, 29, 23), outline=True)
    assert read_drawing(canvas, Kind.BOX, (200, 160)).boxes == (
        (0.1, 0.1, 0.3, 0.3),
        (0.6, 0.5, 0.8, 0.75),
    )
    assert read_drawing(canvas, Kind.POINT, (200, 160)).points == ((0.2, 0.2), (0.7, 0.625))
    sides = drawn((20, 16, 20, 47), (22, 16, 57, 16), (59, 16, 59, 47), (22, 47, 57, 47))
    assert read_drawing(sides, Kind.BOX, (200, 160)).boxes == ((0.2, 0.2, 0.6, 0.6),)


def test_a_frame_around_everything_marks_nothing() -> None:
    with pytest.raises(BadInput, match="whole image"):
        read_drawing(drawn((0, 0, 99, 79), outline=True), Kind.AREA, (100, 80))


def test_text_is_escaped_as_far_as_it_speaks_markdown() -> None:
    assert literal("look at img_1, 3.5 m (wide)!") == "look at img_1, 3.5 m (wide)!"
    assert literal("# <b> *x* `y` ![z](u)") == r"\# \<b> \*x\* \`y\` !\[z\](u)"
    assert literal("1. a\n- b") == "1\\. a\n\\- b"
    assert fenced("a\n```\nb").startswith("````text\n")
    assert not re.search(r"<[a-z/!]|!\[", answer(HOSTILE + "<!-- x -->"))
    assert answer("**so** it is, 1 < 2") == "**so** it is, 1 < 2"
