"""The page in a real browser: a scripted LMM, real skills, a real store."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from llava_plus.agent.chats import Chats
from llava_plus.agent.dispatcher import Dispatcher, LocalDispatcher
from llava_plus.agent.gateway.app import create_app
from llava_plus.agent.settings import Settings
from llava_plus.agent.store.store import open_store
from llava_plus.agent.store.values import KeptTurn, TurnState
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage, UserMessage
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.adjust import Adjust
from llava_plus.skills.crop import Crop
from llava_plus.skills.detect import Detect
from llava_plus.skills.errors import WorkerUnavailable
from llava_plus.skills.worker import listen, server_config
from playwright.sync_api import Browser, Locator, Page, expect

from ...toy_skills import Climb, Noop

__all__ = ["CHROMIUM", "HOSTILE", "PATIENCE", "Server", "Tab", "needs_browser", "opened", "served"]

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
            boxes = enumerate(last.marks.boxes)
            return [call("crop", f"c{n}", image=newest, box=list(box)) for n, box in boxes]
        case "Find":
            return call("detect", labels=["barcode"], image=newest)
        case "Repeat":
            return call("noop", text=HOSTILE)
        case "Climb":
            return call("climb", steps=600, pause=0.1)
        case "Fail" if not any(isinstance(m, AssistantMessage) for m in seen.messages):
            raise WorkerUnavailable("no <b>worker</b> answers")
    return f"That is *number {len(seen.messages)}*."


def call(name: str, id_: str = "a", **arguments: Any) -> SkillUse:
    return SkillUse(id=id_, name=name, arguments=arguments)


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


@asynccontextmanager
async def own_skills() -> AsyncIterator[Dispatcher]:
    """Some skills in this process."""
    dispatcher = LocalDispatcher([Adjust(), Crop(), Detect(), Noop(), Climb()])
    yield dispatcher
    await dispatcher.aclose()


@contextmanager
def served(
    folder: Path, skills: Callable[[], AbstractAsyncContextManager[Dispatcher]] = own_skills
) -> Iterator[Server]:
    """A gateway whose LMM does what `say` tells, with its files in `folder`."""
    running: list[tuple[uvicorn.Server, Server]] = []
    ready = threading.Event()

    async def serve(url: str, listening: Any) -> None:
        places = f"sqlite+aiosqlite:///{folder}/chats.sqlite", str(folder / "artifacts")
        async with open_store(*places) as store, skills() as dispatcher:
            lmm = ScriptedLMM([say] * 200)
            chats = Chats(store, {"scripted": lmm}, dispatcher, await dispatcher.specs())
            app = uvicorn.Server(server_config(create_app(chats, Settings())))
            running.append((app, Server(url, chats, asyncio.get_running_loop())))
            ready.set()
            await app.serve(sockets=[listening])
            await chats.aclose()

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
            with self.page.expect_file_chooser() as chooser:
                self.find("#entry .upload-button").click()
            chooser.value.set_files(files)
            expect(self.find("#entry .thumbnail-item")).to_have_count(len(files))
        self.find("#entry textarea").fill(text)
        self.find("#entry textarea").press("Enter")

    def unfold(self) -> Locator:
        """Open the last call, and give its fold-out."""
        fold = self.chat.locator(".thought-group").last
        fold.locator(".title").click()
        return fold

    def done(self, text: str) -> None:
        """Wait for an answer, and until another request can be sent."""
        expect(self.chat.get_by_text(text).last).to_be_visible()
        expect(self.find("#reword")).to_be_visible()


@contextmanager
def opened(server: Server, browser: Browser, **options: Any) -> Iterator[Tab]:
    """A tab with the page; `options` are of the browser's context. It asks no other server."""
    context = browser.new_context(accept_downloads=True, **options)
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
